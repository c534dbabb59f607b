//! PredictionService.

use tonic::{Request, Response, Status};

use super::{
    RequestLimits,
    convert::{check_count, raw_rows, wire_status, wire_value},
    pb::{self, prediction_service_server::PredictionService},
    to_status,
};
use crate::{
    error::{Error, Result},
    features::FeatureColumn,
    inference::{Prediction, Predictions, Predictor, Signature, Target},
};

/// Answers PredictionService.
pub struct PredictionApi {
    /// Scores.
    pub predictor: Predictor,
    /// How much one request may ask for.
    pub limits: RequestLimits,
}

#[tonic::async_trait]
impl PredictionService for PredictionApi {
    async fn predict(
        &self,
        request: Request<pb::PredictRequest>,
    ) -> Result<Response<pb::PredictResponse>, Status> {
        let request = request.into_inner();
        let model = request.model.clone();
        let predictions = self
            .score_rows(request)
            .await
            .map_err(|error| to_status(&error))?;
        Ok(Response::new(wire_predictions(model, predictions)))
    }

    async fn predict_by_entity(
        &self,
        request: Request<pb::PredictByEntityRequest>,
    ) -> Result<Response<pb::PredictResponse>, Status> {
        let request = request.into_inner();
        let model = request.model.clone();
        let with_features = request.include_features;
        let mut predictions = self
            .score_entities(request)
            .await
            .map_err(|error| to_status(&error))?;
        if !with_features {
            predictions.features = None;
        }
        Ok(Response::new(wire_predictions(model, predictions)))
    }
}

impl PredictionApi {
    async fn score_rows(&self, request: pb::PredictRequest) -> Result<Predictions> {
        let target = Target {
            model: &request.model,
            version: &request.version,
        };
        let max = self.limits.entities_max;
        let Some(dense) = request.dense else {
            check_count("rows", request.rows.len(), max)?;
            let rows = raw_rows(request.rows);
            return self.predictor.predict_rows(target, &rows).await;
        };
        if !request.rows.is_empty() {
            return Err(Error::invalid("dense", "comes instead of rows, not beside"));
        }
        let row_count = usize::try_from(dense.row_count).unwrap_or(usize::MAX);
        check_count("dense.rowCount", row_count, max)?;
        self.predictor
            .predict_dense(target, &dense.values, row_count)
            .await
    }

    async fn score_entities(&self, request: pb::PredictByEntityRequest) -> Result<Predictions> {
        let target = Target {
            model: &request.model,
            version: &request.version,
        };
        check_count("entities", request.entities.len(), self.limits.entities_max)?;
        let entities = raw_rows(request.entities);
        self.predictor.predict_by_entity(target, &entities).await
    }
}

fn wire_predictions(model: String, scored: Predictions) -> pb::PredictResponse {
    let signature = &scored.ready.signature;
    let columns = scored.features.as_deref().unwrap_or_default();
    let predictions = scored
        .predictions
        .iter()
        .enumerate()
        .map(|(row, prediction)| wire_prediction(signature, columns, row, prediction))
        .collect();
    pb::PredictResponse {
        model,
        version: scored.version,
        predictions,
    }
}

fn wire_prediction(
    signature: &Signature,
    columns: &[FeatureColumn],
    row: usize,
    prediction: &Prediction,
) -> pb::Prediction {
    let mut wire = pb::Prediction {
        prediction_id: prediction.id.to_string(),
        score: prediction.score,
        label: signature.label(prediction.is_positive).to_owned(),
        probabilities: signature
            .classes
            .iter()
            .cloned()
            .zip(prediction.probabilities.iter().copied())
            .collect(),
        ..pb::Prediction::default()
    };
    for column in columns {
        if let Some(feature) = column.values.get(row) {
            let name = column.reference.to_string();
            wire.features
                .insert(name.clone(), wire_value(feature.value.clone()));
            wire.feature_statuses
                .insert(name, wire_status(feature.status).into());
        }
    }
    wire
}
