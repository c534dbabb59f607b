//! PredictionService.

use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use super::{
    RequestLimits, StreamBounds,
    convert::{check_count, moment, raw_rows, wire_status, wire_value},
    ledger::{prediction_id, wire_recorded, wire_replay, wire_status_of},
    model_service::wire_kind,
    pb::{self, prediction_service_server::PredictionService},
    status::batch_error,
    stream::{Manner, answer_in_order},
    to_status,
};
use crate::{
    catalog::ValueType,
    error::{Error, Result},
    features::{RawRow, Timestamp, Value},
    inference::{
        Answerer, Explanation, Jobs, Predictions, Predictor, Replay, ScoredBatch, Signature,
        Subject, Target, Task,
    },
};

/// What names a moment beside an entity's keys.
const TIMESTAMP: &str = "timestamp";

/// Answers PredictionService.
#[derive(Clone)]
pub struct PredictionApi {
    /// Scores.
    pub predictor: Predictor,
    /// Scores some time.
    pub jobs: Jobs,
    /// How much one request may ask for.
    pub limits: RequestLimits,
    /// How long a stream may last.
    pub stream: StreamBounds,
    /// Requests of one stream that are scored at once.
    pub stream_at_once_max: usize,
}

#[tonic::async_trait]
impl PredictionService for PredictionApi {
    async fn predict(
        &self,
        request: Request<pb::PredictRequest>,
    ) -> Result<Response<pb::PredictResponse>, Status> {
        let scored = self.score_rows(request.into_inner()).await;
        scored.map(Response::new).map_err(|error| to_status(&error))
    }

    async fn predict_by_entity(
        &self,
        request: Request<pb::PredictByEntityRequest>,
    ) -> Result<Response<pb::PredictResponse>, Status> {
        let scored = self.score_entities(request.into_inner()).await;
        scored.map(Response::new).map_err(|error| to_status(&error))
    }

    async fn predict_entity(
        &self,
        request: Request<pb::PredictEntityRequest>,
    ) -> Result<Response<pb::PredictEntityResponse>, Status> {
        let scored = self.score_entity(request.into_inner()).await;
        scored.map(Response::new).map_err(|error| to_status(&error))
    }

    type StreamPredictStream = ReceiverStream<Result<pb::StreamPredictResponse, Status>>;

    async fn stream_predict(
        &self,
        request: Request<Streaming<pb::StreamPredictRequest>>,
    ) -> Result<Response<Self::StreamPredictStream>, Status> {
        let api = self.clone();
        let manner = Manner {
            request: "request",
            answer: "answer",
            stopped: "the server stops; send the rest on another connection",
            at_once_max: self.stream_at_once_max,
        };
        let answers = answer_in_order(request, self.stream.clone(), manner, move |one| {
            let api = api.clone();
            async move { api.score_one(one).await }
        });
        Ok(Response::new(answers))
    }

    async fn explain(
        &self,
        request: Request<pb::ExplainRequest>,
    ) -> Result<Response<pb::ExplainResponse>, Status> {
        let explained = self.explain_one(request.into_inner()).await;
        explained
            .map(Response::new)
            .map_err(|error| to_status(&error))
    }

    async fn submit_prediction(
        &self,
        request: Request<pb::SubmitPredictionRequest>,
    ) -> Result<Response<pb::PredictionJob>, Status> {
        let job = self.submit_job(request.into_inner()).await;
        job.map(Response::new).map_err(|error| to_status(&error))
    }

    async fn get_prediction_job(
        &self,
        request: Request<pb::GetPredictionJobRequest>,
    ) -> Result<Response<pb::GetPredictionJobResponse>, Status> {
        let page = self.job_page(request.get_ref()).await;
        page.map(Response::new).map_err(|error| to_status(&error))
    }

    async fn list_prediction_jobs(
        &self,
        request: Request<pb::ListPredictionJobsRequest>,
    ) -> Result<Response<pb::ListPredictionJobsResponse>, Status> {
        let jobs = self.list_jobs(request.into_inner()).await;
        jobs.map(Response::new).map_err(|error| to_status(&error))
    }

    async fn cancel_prediction_job(
        &self,
        request: Request<pb::CancelPredictionJobRequest>,
    ) -> Result<Response<pb::PredictionJob>, Status> {
        let job = self.cancel_job(request.get_ref()).await;
        job.map(Response::new).map_err(|error| to_status(&error))
    }

    async fn get_prediction(
        &self,
        request: Request<pb::GetPredictionRequest>,
    ) -> Result<Response<pb::RecordedPrediction>, Status> {
        let found = self.recorded(request.get_ref()).await;
        found.map(Response::new).map_err(|error| to_status(&error))
    }

    async fn replay_prediction(
        &self,
        request: Request<pb::ReplayPredictionRequest>,
    ) -> Result<Response<pb::ReplayPredictionResponse>, Status> {
        let replayed = self.replay(request.get_ref()).await;
        replayed
            .map(Response::new)
            .map_err(|error| to_status(&error))
    }

    async fn get_ledger_status(
        &self,
        _: Request<pb::GetLedgerStatusRequest>,
    ) -> Result<Response<pb::LedgerStatus>, Status> {
        Ok(Response::new(wire_status_of(&self.predictor.ledger)))
    }
}

impl PredictionApi {
    /// One request of a stream: its error is its answer.
    async fn score_one(&self, one: pb::StreamPredictRequest) -> pb::StreamPredictResponse {
        use pb::stream_predict_request::Request::{Predict, PredictByEntity};
        let scored = match one.request {
            Some(Predict(request)) => self.score_rows(request).await,
            Some(PredictByEntity(request)) => self.score_entities(request).await,
            None => Err(Error::invalid(
                "request",
                "neither predict nor predictByEntity is there",
            )),
        };
        let (response, error) = match scored {
            Ok(response) => (Some(response), None),
            Err(fault) => (None, Some(batch_error(&fault))),
        };
        pb::StreamPredictResponse {
            id: one.id,
            response,
            error,
        }
    }

    async fn explain_one(&self, request: pb::ExplainRequest) -> Result<pb::ExplainResponse> {
        let subject = match (request.row, request.entity) {
            (Some(row), None) => Subject::Rows(raw_rows(vec![row]).into()),
            (None, Some(entity)) => Subject::entities(raw_rows(vec![entity])),
            (Some(_), Some(_)) => {
                return Err(Error::invalid("entity", "comes instead of row, not beside"));
            }
            (None, None) => return Err(Error::invalid("row", "neither row nor entity is there")),
        };
        let target = Target {
            model: &request.model,
            version: &request.version,
        };
        let (scored, explained) = self.predictor.explain(target, &subject).await?;
        wire_explanation(request.model, &request.class, &scored, &explained)
    }

    async fn score_rows(&self, request: pb::PredictRequest) -> Result<pb::PredictResponse> {
        let subject = row_subject(request.rows, request.dense, self.limits.entities_max)?;
        let target = Target {
            model: &request.model,
            version: &request.version,
        };
        let scored = self.predictor.predict(target, &subject).await?;
        wire_predictions(&request.model, &scored, false)
    }

    async fn score_entities(
        &self,
        request: pb::PredictByEntityRequest,
    ) -> Result<pb::PredictResponse> {
        check_count("entities", request.entities.len(), self.limits.entities_max)?;
        let subject = Subject::Entities {
            rows: raw_rows(request.entities).into(),
            as_of: moment("asOf", request.as_of)?,
        };
        let target = Target {
            model: &request.model,
            version: &request.version,
        };
        let scored = self.predictor.predict(target, &subject).await?;
        wire_predictions(&request.model, &scored, request.include_features)
    }

    async fn score_entity(
        &self,
        request: pb::PredictEntityRequest,
    ) -> Result<pb::PredictEntityResponse> {
        let model = match request.model.as_str() {
            "" => self.predictor.model_of_entity(&request.entity)?,
            name => self.predictor.models.model(name)?,
        };
        let (key, as_of) = key_and_moment(request.key.unwrap_or_default())?;
        let subject = Subject::Entities {
            rows: [key].into(),
            as_of,
        };
        let target = Target {
            model: &model.name,
            version: &request.version,
        };
        let scored = self.predictor.predict(target, &subject).await;
        // The caller named no list.
        let scored = scored.map_err(|error| error.renamed("entities[0]", "key"))?;
        let answer = wire_predictions(&model.name, &scored, true)?;
        Ok(pb::PredictEntityResponse {
            model: answer.model,
            prediction: answer.predictions.into_iter().next(),
        })
    }

    async fn recorded(&self, request: &pb::GetPredictionRequest) -> Result<pb::RecordedPrediction> {
        let id = prediction_id(&request.prediction_id)?;
        let entry = self.predictor.ledger.prediction(id).await?;
        Ok(wire_recorded(&entry))
    }

    async fn replay(
        &self,
        request: &pb::ReplayPredictionRequest,
    ) -> Result<pb::ReplayPredictionResponse> {
        let id = prediction_id(&request.prediction_id)?;
        let Predictor { ledger, models, .. } = &self.predictor;
        let replay = Replay::run(ledger, models, id, &request.version).await?;
        Ok(wire_replay(&replay))
    }
}

/// The join keys of an entity, and the moment that is named beside them.
fn key_and_moment(key: prost_types::Struct) -> Result<(RawRow, Option<Timestamp>)> {
    let mut row = raw_rows(vec![key]).into_iter().next().unwrap_or_default();
    let at = row.fields.iter().position(|(name, _)| name == TIMESTAMP);
    let Some(at) = at else {
        return Ok((row, None));
    };
    let (_, moment) = row.fields.remove(at);
    match moment.to_value(ValueType::Timestamp) {
        Ok(Value::Timestamp(moment)) => Ok((row, Some(moment))),
        Ok(_) => Ok((row, None)),
        Err(fault) => Err(Error::invalid(format!("key.{TIMESTAMP}"), fault)),
    }
}

/// Rows that a request brings, in one of two forms.
pub(super) fn row_subject(
    rows: Vec<prost_types::Struct>,
    dense: Option<pb::DenseRows>,
    rows_max: usize,
) -> Result<Subject> {
    let Some(dense) = dense else {
        check_count("rows", rows.len(), rows_max)?;
        return Ok(Subject::Rows(raw_rows(rows).into()));
    };
    if !rows.is_empty() {
        return Err(Error::invalid("dense", "comes instead of rows, not beside"));
    }
    let count = usize::try_from(dense.row_count).unwrap_or(usize::MAX);
    check_count("dense.rowCount", count, rows_max)?;
    Ok(Subject::Dense {
        values: dense.values.into(),
        rows: count,
    })
}

fn wire_predictions(
    model: &str,
    scored: &Predictions,
    with_features: bool,
) -> Result<pb::PredictResponse> {
    let mut outputs = Vec::new();
    let predictions = scored
        .rows()
        .map(|(answerer, reason)| wire_answer(answerer, reason, with_features, &mut outputs));
    // The default version's part is the last one of the model itself.
    let mut signatures = scored.parts.iter().map(|part| &part.version.signature);
    let version = signatures
        .rfind(|signature| signature.model == model)
        .map(|signature| &signature.version);
    Ok(pb::PredictResponse {
        model: model.to_owned(),
        predictions: predictions.collect::<Result<_>>()?,
        version: version.cloned().unwrap_or_default(),
    })
}

fn wire_answer(
    answerer: Answerer<'_>,
    reason: Option<&str>,
    with_features: bool,
    outputs: &mut Vec<f64>,
) -> Result<pb::Prediction> {
    let mut wire = match answerer {
        Answerer::Version(part, row) => wire_prediction(part, row, with_features, outputs)?,
        Answerer::Constant(constant) => pb::Prediction {
            score: constant.score,
            label: constant.label.clone(),
            ..pb::Prediction::default()
        },
    };
    wire.fallback = reason.map(|reason| pb::UsedFallback {
        model: match answerer {
            Answerer::Version(part, _) => part.version.signature.model.clone(),
            Answerer::Constant(_) => String::new(),
        },
        reason: reason.to_owned(),
    });
    Ok(wire)
}

fn wire_prediction(
    part: &ScoredBatch,
    row: usize,
    with_features: bool,
    outputs: &mut Vec<f64>,
) -> Result<pb::Prediction> {
    let signature = &part.version.signature;
    let prediction = part.prediction(row, outputs)?;
    let interpreted = prediction.interpreted;
    let label = interpreted.label.and_then(|at| signature.classes.get(at));
    let mut wire = pb::Prediction {
        prediction_id: prediction.id.to_string(),
        score: interpreted.score,
        label: label.cloned().unwrap_or_default(),
        probabilities: signature
            .classes
            .iter()
            .cloned()
            .zip(interpreted.probabilities.iter().copied())
            .collect(),
        version: signature.version.clone(),
        violations: wire_violations(part, row),
        ..pb::Prediction::default()
    };
    let Some(features) = part.features.as_ref().filter(|_| with_features) else {
        return Ok(wire);
    };
    for (position, name) in features.names().iter().enumerate() {
        if let Some(feature) = features.column(position).get(row) {
            wire.features
                .insert(name.clone(), wire_value(feature.value.clone()));
            wire.feature_statuses
                .insert(name.clone(), wire_status(feature.status).into());
        }
    }
    Ok(wire)
}

fn wire_explanation(
    model: String,
    class: &str,
    scored: &ScoredBatch,
    explained: &[Explanation],
) -> Result<pb::ExplainResponse> {
    let signature = &scored.version.signature;
    let prediction = wire_prediction(scored, 0, true, &mut Vec::new())?;
    let class = match (signature.task, class) {
        (Task::BinaryClassification, "") => signature.positive_class.clone(),
        (_, "") => prediction.label.clone(),
        (_, class) => class.to_owned(),
    };
    let (explanation, sign) = explanation_of(signature, &class, explained)?;
    let inputs = signature.inputs.iter().zip(&explanation.contributions);
    let mut contributions: Vec<pb::Contribution> = inputs
        .enumerate()
        .map(|(position, (input, contribution))| pb::Contribution {
            input: input.name.clone(),
            contribution: sign * contribution,
            value: scored
                .version
                .layout
                .get(&scored.batch, 0, position)
                .map(wire_value),
        })
        .collect();
    contributions.sort_by(|one, other| {
        let (one, other) = (one.contribution.abs(), other.contribution.abs());
        other.total_cmp(&one)
    });
    Ok(pb::ExplainResponse {
        model,
        prediction: Some(prediction),
        class,
        base_value: sign * explanation.base_value,
        raw_score: sign * explanation.raw_score,
        contributions,
    })
}

/// The explanation of a class. A binary classifier's trees explain its second class; the first is the same with the other
/// sign.
fn explanation_of<'a>(
    signature: &Signature,
    class: &str,
    explained: &'a [Explanation],
) -> Result<(&'a Explanation, f64)> {
    let at = signature.classes.iter().position(|known| known == class);
    let found = match (signature.task, at) {
        (Task::BinaryClassification, Some(0)) => explained.first().map(|found| (found, -1.0)),
        (Task::BinaryClassification, Some(_)) => explained.first().map(|found| (found, 1.0)),
        (Task::MulticlassClassification, Some(at)) => explained.get(at).map(|found| (found, 1.0)),
        (Task::Regression | Task::Ranking, _) if class.is_empty() => {
            explained.first().map(|found| (found, 1.0))
        }
        (Task::Regression | Task::Ranking, _) => {
            return Err(Error::invalid("class", "the model has no classes"));
        }
        (Task::BinaryClassification | Task::MulticlassClassification, None) => {
            return Err(Error::invalid(
                "class",
                format!(
                    "\"{class}\" is none of the model's classes: {}",
                    signature.classes.join(", ")
                ),
            ));
        }
    };
    found.ok_or_else(|| Error::internal("the version explained another number of outputs"))
}

fn wire_violations(part: &ScoredBatch, row: usize) -> Vec<pb::InputViolation> {
    let inputs = &part.version.signature.inputs;
    part.violations_of(row)
        .map(|violation| pb::InputViolation {
            input: inputs
                .get(violation.input)
                .map_or_else(String::new, |input| input.name.clone()),
            kind: wire_kind(violation.kind).into(),
            defaulted: violation.is_defaulted,
        })
        .collect()
}
