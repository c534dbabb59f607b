//! Prediction jobs: submit, look, page, list, cancel.

use uuid::Uuid;

use crate::{
    error::{Error, Result},
    grpc::{
        PredictionApi,
        convert::{check_count, raw_rows, wire_timestamp},
        model_service::wire_kind,
        pb,
        prediction_service::row_subject,
        status::code,
    },
    inference::{JobFilter, JobPrediction, JobState, PredictionJob, Subject, Submission},
};

/// Predictions of one page, and where a request names no number.
const PREDICTIONS_MAX: u32 = 10_000;
const PREDICTIONS_DEFAULT: u32 = 1_000;

/// Jobs of one list, and where a request names no number.
const JOBS_MAX: u32 = 1_000;
const JOBS_DEFAULT: u32 = 100;

impl PredictionApi {
    pub(in crate::grpc) async fn submit_job(
        &self,
        request: pb::SubmitPredictionRequest,
    ) -> Result<pb::PredictionJob> {
        let submission = Submission {
            request_id: some(request.request_id),
            subject: subject(
                request.entities,
                request.rows,
                request.dense,
                self.jobs.options().entities_max,
            )?,
            model: request.model,
            version: request.version,
        };
        self.jobs.submit(submission).await.map(wire_job)
    }

    pub(in crate::grpc) async fn job_page(
        &self,
        request: &pb::GetPredictionJobRequest,
    ) -> Result<pb::GetPredictionJobResponse> {
        let id = job_id(&request.job_id)?;
        let first = match request.page_token.as_str() {
            "" => 0,
            token => token.parse().map_err(|_| bad_token())?,
        };
        let size = page_size(request.page_size, PREDICTIONS_DEFAULT, PREDICTIONS_MAX);
        let page = self.jobs.page(id, first, size).await?;
        Ok(pb::GetPredictionJobResponse {
            job: Some(wire_job(page.job)),
            predictions: page.predictions.into_iter().map(wire_prediction).collect(),
            next_page_token: page.next.map_or_else(String::new, |row| row.to_string()),
        })
    }

    pub(in crate::grpc) async fn list_jobs(
        &self,
        request: pb::ListPredictionJobsRequest,
    ) -> Result<pb::ListPredictionJobsResponse> {
        let before = match request.page_token.as_str() {
            "" => None,
            token => Some(Uuid::parse_str(token).map_err(|_| bad_token())?),
        };
        let limit = page_size(request.page_size, JOBS_DEFAULT, JOBS_MAX);
        let filter = JobFilter {
            state: domain_state(request.state)?,
            model: some(request.model),
            before,
            // One more tells whether there is a page after this one.
            limit: limit + 1,
        };
        let mut jobs = self.jobs.list(&filter).await?;
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let has_more = jobs.len() > limit;
        jobs.truncate(limit);
        let last = jobs.last().filter(|_| has_more);
        Ok(pb::ListPredictionJobsResponse {
            next_page_token: last.map_or_else(String::new, |job| job.id.to_string()),
            jobs: jobs.into_iter().map(wire_job).collect(),
        })
    }

    pub(in crate::grpc) async fn cancel_job(
        &self,
        request: &pb::CancelPredictionJobRequest,
    ) -> Result<pb::PredictionJob> {
        let id = job_id(&request.job_id)?;
        self.jobs.cancel(id).await.map(wire_job)
    }
}

fn subject(
    entities: Vec<prost_types::Struct>,
    rows: Vec<prost_types::Struct>,
    dense: Option<pb::DenseRows>,
    rows_max: usize,
) -> Result<Subject> {
    if !rows.is_empty() || dense.is_some() {
        if !entities.is_empty() {
            return Err(Error::invalid(
                "entities",
                "come instead of rows or dense, not beside",
            ));
        }
        return row_subject(rows, dense, rows_max);
    }
    check_count("entities", entities.len(), rows_max)?;
    Ok(Subject::entities(raw_rows(entities)))
}

fn job_id(text: &str) -> Result<Uuid> {
    Uuid::parse_str(text).map_err(|_| {
        Error::invalid(
            "jobId",
            "is no id of a prediction job, as SubmitPrediction answers it",
        )
    })
}

fn bad_token() -> Error {
    Error::invalid("pageToken", "is none that the page before has answered")
}

fn page_size(asked: u32, default: u32, max: u32) -> u32 {
    match asked {
        0 => default,
        size => size.min(max),
    }
}

fn some(text: String) -> Option<String> {
    (!text.is_empty()).then_some(text)
}

fn domain_state(number: i32) -> Result<Option<JobState>> {
    use pb::prediction_job::State;
    let state = State::try_from(number)
        .map_err(|_| Error::invalid("state", format!("{number} is no state of a job")))?;
    Ok(match state {
        State::Unspecified => None,
        State::Queued => Some(JobState::Queued),
        State::Running => Some(JobState::Running),
        State::Succeeded => Some(JobState::Succeeded),
        State::Failed => Some(JobState::Failed),
        State::Cancelled => Some(JobState::Cancelled),
        State::Expired => Some(JobState::Expired),
    })
}

fn wire_state(state: JobState) -> pb::prediction_job::State {
    use pb::prediction_job::State;
    match state {
        JobState::Queued => State::Queued,
        JobState::Running => State::Running,
        JobState::Succeeded => State::Succeeded,
        JobState::Failed => State::Failed,
        JobState::Cancelled => State::Cancelled,
        JobState::Expired => State::Expired,
    }
}

fn wire_job(job: PredictionJob) -> pb::PredictionJob {
    let error_code = job.error.as_ref().map(|error| i32::from(code(error.kind)));
    pb::PredictionJob {
        job_id: job.id.to_string(),
        request_id: job.request_id.unwrap_or_default(),
        model: job.model,
        wanted_version: job.wanted_version,
        version: job.version.map(|pinned| pinned.version).unwrap_or_default(),
        state: wire_state(job.state).into(),
        total: job.total,
        done: job.done,
        attempts: job.attempts,
        submitted_at: Some(wire_timestamp(job.submitted_at)),
        started_at: job.started_at.map(wire_timestamp),
        ended_at: job.ended_at.map(wire_timestamp),
        expires_at: Some(wire_timestamp(job.expires_at)),
        error: job.error.map(|error| error.message).unwrap_or_default(),
        error_code: error_code.unwrap_or_default(),
    }
}

/// As the answer at once has it, without the features.
fn wire_prediction(prediction: JobPrediction) -> pb::Prediction {
    let violations = prediction.violations.into_iter();
    pb::Prediction {
        prediction_id: prediction.id.to_string(),
        score: prediction.score,
        label: prediction.label,
        probabilities: prediction.probabilities.into_iter().collect(),
        version: prediction.version.to_string(),
        violations: violations
            .map(|(input, kind, defaulted)| pb::InputViolation {
                input,
                kind: wire_kind(kind).into(),
                defaulted,
            })
            .collect(),
        ..pb::Prediction::default()
    }
}
