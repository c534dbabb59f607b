//! ModelService.

use std::{collections::HashMap, sync::Arc};

use tonic::{Request, Response, Status};

use super::{
    convert::wire_type,
    pb::{self, model_service_server::ModelService},
    to_status,
};
use crate::inference::{Model, ModelRegistry, ModelVersion, ReadyVersion, VersionState};

/// Answers ModelService.
pub struct ModelApi {
    /// What is loaded.
    pub models: Arc<ModelRegistry>,
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
        let model = self
            .models
            .model(&request.get_ref().model)
            .map_err(|error| to_status(&error))?;
        Ok(Response::new(wire_model(&model)))
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
    }
}

fn wire_version(version: &ModelVersion) -> pb::ModelVersion {
    match &version.state {
        VersionState::Ready(ready) => wire_ready(&version.version, ready),
        VersionState::Refused(reason) => pb::ModelVersion {
            version: version.version.clone(),
            state: pb::model_version::State::Refused.into(),
            reason: reason.clone(),
            ..pb::ModelVersion::default()
        },
    }
}

fn wire_ready(version: &str, ready: &ReadyVersion) -> pb::ModelVersion {
    let signature = &ready.signature;
    let inputs = signature
        .inputs
        .iter()
        .zip(&ready.inputs)
        .map(|(input, bound)| pb::ModelInput {
            name: input.name.clone(),
            r#type: wire_type(input.value_type).into(),
            feature: bound.feature.to_string(),
            categories: input.categories.clone(),
        })
        .collect();
    pb::ModelVersion {
        version: version.to_owned(),
        state: pb::model_version::State::Ready.into(),
        reason: String::new(),
        runtime: signature.runtime.clone(),
        digest: signature.sha256.clone(),
        inputs,
        classes: signature.classes.clone(),
        positive_class: signature.positive_class.clone(),
        threshold: signature.threshold,
        golden_rows: u32::try_from(ready.golden_rows).unwrap_or(u32::MAX),
    }
}
