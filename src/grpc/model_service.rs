//! ModelService.

use std::{collections::HashMap, sync::Arc};

use tonic::{Request, Response, Status};

use super::{
    convert::{wire_timestamp, wire_type},
    pb::{self, model_service_server::ModelService},
    to_status,
};
use crate::{
    error::{Error, Result as Outcome},
    inference::{
        Author, EventKind, Input, Lifecycle, Model, ModelRegistry, ModelSource, ModelVersion,
        ReadyVersion, ReleaseChange, ReleaseEvent, Share, Task, Traffic, VersionState,
        ViolationKind, WEIGHT_WHOLE,
    },
};

/// Events of one answer, and where a request names no number.
const EVENTS_MAX: u32 = 1_000;
const EVENTS_DEFAULT: u32 = 100;

/// The longest text that the record of a change keeps of who and why.
const AUTHOR_CHARS_MAX: usize = 1_000;

/// Answers ModelService.
pub struct ModelApi {
    /// What is loaded.
    pub models: Arc<ModelRegistry>,
    /// What changes it.
    pub lifecycle: Arc<Lifecycle>,
}

#[tonic::async_trait]
impl ModelService for ModelApi {
    async fn list_models(
        &self,
        _: Request<pb::ListModelsRequest>,
    ) -> Result<Response<pb::ListModelsResponse>, Status> {
        let models = self.models.snapshot();
        let models = models.values().map(|model| wire_model(model)).collect();
        Ok(Response::new(pb::ListModelsResponse { models }))
    }

    async fn get_model(
        &self,
        request: Request<pb::GetModelRequest>,
    ) -> Result<Response<pb::Model>, Status> {
        answer(self.models.model(&request.get_ref().model))
    }

    async fn load_model(
        &self,
        request: Request<pb::LoadModelRequest>,
    ) -> Result<Response<pb::Model>, Status> {
        let asked = request.get_ref();
        let author = author(&request, &asked.actor, &asked.reason);
        let loaded = self
            .lifecycle
            .load_versions(&asked.model, &asked.version, &author);
        answer(loaded.await)
    }

    async fn unload_model(
        &self,
        request: Request<pb::UnloadModelRequest>,
    ) -> Result<Response<pb::Model>, Status> {
        let asked = request.get_ref();
        let author = author(&request, &asked.actor, &asked.reason);
        let unloaded = self
            .lifecycle
            .unload_versions(&asked.model, &asked.version, &author);
        answer(unloaded.await)
    }

    async fn set_alias(
        &self,
        request: Request<pb::SetAliasRequest>,
    ) -> Result<Response<pb::Model>, Status> {
        let asked = request.get_ref();
        let author = author(&request, &asked.actor, &asked.reason);
        let change = ReleaseChange::SetAlias {
            alias: asked.alias.clone(),
            version: some_text(&asked.version),
            expected: asked.expected_version.as_deref().map(some_text),
        };
        answer(self.lifecycle.change(&asked.model, change, &author).await)
    }

    async fn rollback_alias(
        &self,
        request: Request<pb::RollbackAliasRequest>,
    ) -> Result<Response<pb::Model>, Status> {
        let asked = request.get_ref();
        let author = author(&request, &asked.actor, &asked.reason);
        let change = ReleaseChange::RollbackAlias {
            alias: asked.alias.clone(),
            expected: asked.expected_version.clone(),
        };
        answer(self.lifecycle.change(&asked.model, change, &author).await)
    }

    async fn set_traffic(
        &self,
        request: Request<pb::SetTrafficRequest>,
    ) -> Result<Response<pb::Model>, Status> {
        let asked = request.get_ref();
        let author = author(&request, &asked.actor, &asked.reason);
        let traffic = asked.traffic.as_ref().map(domain_traffic).transpose();
        let change = ReleaseChange::SetTraffic {
            traffic: traffic.map_err(|error| to_status(&error))?,
            expected_revision: asked.expected_revision,
        };
        answer(self.lifecycle.change(&asked.model, change, &author).await)
    }

    async fn list_release_events(
        &self,
        request: Request<pb::ListReleaseEventsRequest>,
    ) -> Result<Response<pb::ListReleaseEventsResponse>, Status> {
        let asked = request.get_ref();
        let limit = match asked.limit {
            0 => EVENTS_DEFAULT,
            limit => limit.min(EVENTS_MAX),
        };
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let events = self.lifecycle.events(&asked.model, limit).await;
        let events = events.map_err(|error| to_status(&error))?;
        Ok(Response::new(pb::ListReleaseEventsResponse {
            events: events.into_iter().map(wire_event).collect(),
        }))
    }
}

fn answer(model: Outcome<Arc<Model>>) -> Result<Response<pb::Model>, Status> {
    match model {
        Ok(model) => Ok(Response::new(wire_model(&model))),
        Err(error) => Err(to_status(&error)),
    }
}

fn some_text(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.to_owned())
}

/// Who asks, and from where: through the gateway, the addresses that it tells.
fn author<T>(request: &Request<T>, actor: &str, reason: &str) -> Author {
    let bounded = |text: &str| text.chars().take(AUTHOR_CHARS_MAX).collect::<String>();
    // What a caller says of himself stands before the address that was seen, and never in its place.
    let forwarded = request.metadata().get("x-forwarded-for");
    let forwarded = forwarded.and_then(|value| value.to_str().ok()).map(bounded);
    let seen = request
        .remote_addr()
        .map(|address| address.ip().to_string());
    let peer: Vec<String> = forwarded.into_iter().chain(seen).collect();
    Author {
        actor: bounded(actor),
        peer: peer.join(", "),
        reason: bounded(reason),
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "between 1 and 10,000, both checked before"
)]
fn domain_traffic(traffic: &pb::Traffic) -> Outcome<Traffic> {
    let canary = traffic.canary.iter().enumerate().map(|(at, share)| {
        let weight = (share.percent * 100.0).round();
        if !(1.0..=f64::from(WEIGHT_WHOLE)).contains(&weight) {
            return Err(Error::invalid(
                format!("traffic.canary[{at}].percent"),
                format!("{} is not 0.01 to 100", share.percent),
            ));
        }
        Ok(Share {
            version: share.version.clone(),
            weight: weight as u32,
        })
    });
    Ok(Traffic {
        canary: canary.collect::<Outcome<_>>()?,
        shadow: traffic.shadow.clone(),
    })
}

fn wire_traffic(traffic: &Traffic) -> pb::Traffic {
    let canary = traffic.canary.iter().map(|share| pb::TrafficShare {
        version: share.version.clone(),
        percent: f64::from(share.weight) / 100.0,
    });
    pb::Traffic {
        canary: canary.collect(),
        shadow: traffic.shadow.clone(),
    }
}

fn wire_event(event: ReleaseEvent) -> pb::ReleaseEvent {
    let kind = match event.kind {
        EventKind::Alias => pb::release_event::Kind::Alias,
        EventKind::Traffic => pb::release_event::Kind::Traffic,
        EventKind::Load => pb::release_event::Kind::Load,
        EventKind::Unload => pb::release_event::Kind::Unload,
    };
    pb::ReleaseEvent {
        revision: event.revision,
        time: Some(wire_timestamp(event.at)),
        actor: event.author.actor,
        peer: event.author.peer,
        reason: event.author.reason,
        kind: kind.into(),
        name: event.name,
        before: event.before.unwrap_or_default(),
        after: event.after.unwrap_or_default(),
    }
}

fn wire_model(model: &Model) -> pb::Model {
    pb::Model {
        name: model.name.clone(),
        description: model.description.clone(),
        default_version: model.default_version.clone().unwrap_or_default(),
        aliases: model.aliases.clone().into_iter().collect::<HashMap<_, _>>(),
        versions: model.versions.iter().map(wire_version).collect(),
        reason: model.reason.clone().unwrap_or_default(),
        traffic: Some(wire_traffic(&model.traffic)),
        release_revision: model.release_revision,
        fallback: model.fallback.as_ref().map(|fallback| pb::Fallback {
            model: fallback.model.clone().unwrap_or_default(),
            score: fallback.score,
            label: fallback.label.clone().unwrap_or_default(),
            by_model: model.fallbacks.by_model(),
            by_constant: model.fallbacks.by_constant(),
        }),
        source: model.source.as_ref().map(wire_source),
    }
}

fn wire_source(source: &ModelSource) -> pb::ModelSource {
    pb::ModelSource {
        location: source.copy.location().to_owned(),
        reached_at: source.copy.reached_at().map(wire_timestamp),
        problem: source.problem().unwrap_or_default(),
        aliases: source.aliases.keys().cloned().collect(),
    }
}

fn wire_version(version: &ModelVersion) -> pb::ModelVersion {
    let (state, reason) = match &version.state {
        VersionState::Ready(ready) => {
            return pb::ModelVersion {
                reason: version.problem.clone().unwrap_or_default(),
                ..wire_ready(&version.version, ready)
            };
        }
        VersionState::Refused(reason) => (pb::model_version::State::Refused, reason.clone()),
        VersionState::Unloaded => (pb::model_version::State::Unloaded, String::new()),
    };
    pb::ModelVersion {
        version: version.version.clone(),
        state: state.into(),
        reason,
        ..pb::ModelVersion::default()
    }
}

fn wire_ready(version: &str, ready: &ReadyVersion) -> pb::ModelVersion {
    let signature = &ready.signature;
    let inputs = signature.inputs.iter().enumerate();
    pb::ModelVersion {
        version: version.to_owned(),
        state: pb::model_version::State::Ready.into(),
        reason: String::new(),
        runtime: ready.runtime.clone(),
        digest: signature.sha256.clone(),
        inputs: inputs
            .map(|(position, input)| wire_input(ready, position, input))
            .collect(),
        classes: signature.classes.clone(),
        positive_class: signature.positive_class.clone(),
        threshold: signature.threshold,
        golden_rows: u32::try_from(ready.golden_rows).unwrap_or(u32::MAX),
        predictions: ready.counters.predictions(),
        shadow_predictions: ready.counters.shadow_predictions(),
        shadows_dropped: ready.counters.shadows_dropped(),
        task: wire_task(signature.task).into(),
    }
}

fn wire_input(ready: &ReadyVersion, position: usize, input: &Input) -> pb::ModelInput {
    let bound = ready.inputs.get(position);
    let violations = ready.counters.violations(position).into_iter();
    let drift = ready.drift.report(position).map(|report| pb::InputDrift {
        rows: report.rows,
        missing_share: report.missing_share,
        trained_missing_share: report.trained_missing_share,
        stability_index: report.stability_index,
    });
    pb::ModelInput {
        name: input.name.clone(),
        r#type: wire_type(input.value_type).into(),
        feature: bound.map_or_else(String::new, |bound| bound.feature.to_string()),
        categories: input.categories.clone(),
        drift,
        violations: violations
            .map(|(kind, count)| pb::ViolationCount {
                kind: wire_kind(kind).into(),
                count,
            })
            .collect(),
    }
}

fn wire_task(task: Task) -> pb::model_version::Task {
    match task {
        Task::BinaryClassification => pb::model_version::Task::BinaryClassification,
        Task::MulticlassClassification => pb::model_version::Task::MulticlassClassification,
        Task::Regression => pb::model_version::Task::Regression,
        Task::Ranking => pb::model_version::Task::Ranking,
    }
}

/// A violation's kind, as predictions tell it, too.
pub(super) fn wire_kind(kind: ViolationKind) -> pb::input_violation::Kind {
    match kind {
        ViolationKind::Missing => pb::input_violation::Kind::Missing,
        ViolationKind::TooOld => pb::input_violation::Kind::TooOld,
        ViolationKind::OutOfRange => pb::input_violation::Kind::OutOfRange,
        ViolationKind::UnknownCategory => pb::input_violation::Kind::UnknownCategory,
    }
}
