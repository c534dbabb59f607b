//! FeatureService: each rpc is handed to the file of its concern in `features`.

use std::sync::Arc;

use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use super::{
    RequestLimits, StreamBounds,
    features::TrainingSetStream,
    features::{Loads, ProgressStream, Scans},
    pb::{self, feature_service_server::FeatureService},
    to_status,
};
use crate::{
    catalog::{CatalogHandle, CatalogStore},
    error::Result,
    features::{OnlineStore, ServiceSelections, TrainingSets},
};

/// Answers FeatureService.
#[derive(Clone)]
pub struct FeatureApi {
    /// What is defined.
    pub catalog: Arc<CatalogHandle>,
    /// Where definitions are kept.
    pub catalog_store: Arc<dyn CatalogStore>,
    /// Where features are kept.
    pub store: Arc<dyn OnlineStore>,
    /// What the feature services are.
    pub selections: Arc<ServiceSelections>,
    /// Who makes training sets.
    pub training_sets: Arc<dyn TrainingSets>,
    /// How much one request may ask for.
    pub limits: RequestLimits,
    /// How long a stream may last.
    pub stream: StreamBounds,
    /// What loads views from their sources.
    pub loads: Loads,
    /// What bounds statistics.
    pub scans: Scans,
}

/// The answer of an rpc, as tonic wants it.
fn answered<T>(answer: Result<T>) -> Result<Response<T>, Status> {
    answer.map(Response::new).map_err(|error| to_status(&error))
}

#[tonic::async_trait]
impl FeatureService for FeatureApi {
    async fn get_online_features(
        &self,
        request: Request<pb::GetOnlineFeaturesRequest>,
    ) -> Result<Response<pb::GetOnlineFeaturesResponse>, Status> {
        answered(self.read(request.into_inner()).await)
    }

    async fn write_features(
        &self,
        request: Request<pb::WriteFeaturesRequest>,
    ) -> Result<Response<pb::WriteFeaturesResponse>, Status> {
        answered(self.write(request.into_inner()).await)
    }

    async fn stream_write_features(
        &self,
        request: Request<tonic::Streaming<pb::StreamWriteFeaturesRequest>>,
    ) -> Result<Response<Self::StreamWriteFeaturesStream>, Status> {
        Ok(Response::new(self.write_stream(request)))
    }

    type StreamWriteFeaturesStream =
        ReceiverStream<Result<pb::StreamWriteFeaturesResponse, Status>>;

    async fn delete_entity(
        &self,
        request: Request<pb::DeleteEntityRequest>,
    ) -> Result<Response<pb::DeleteEntityResponse>, Status> {
        answered(self.delete(request.into_inner()).await)
    }

    async fn materialize(
        &self,
        request: Request<pb::MaterializeRequest>,
    ) -> Result<Response<Self::MaterializeStream>, Status> {
        answered(self.load(request).await)
    }

    type MaterializeStream = ProgressStream;

    async fn get_historical_features(
        &self,
        request: Request<pb::GetHistoricalFeaturesRequest>,
    ) -> Result<Response<Self::GetHistoricalFeaturesStream>, Status> {
        answered(self.historical(request))
    }

    type GetHistoricalFeaturesStream = TrainingSetStream;

    async fn list_feature_services(
        &self,
        _: Request<pb::ListFeatureServicesRequest>,
    ) -> Result<Response<pb::ListFeatureServicesResponse>, Status> {
        answered(Ok(self.list_services()))
    }

    async fn list_feature_views(
        &self,
        _: Request<pb::ListFeatureViewsRequest>,
    ) -> Result<Response<pb::ListFeatureViewsResponse>, Status> {
        answered(Ok(self.list_views()))
    }

    async fn get_feature_view(
        &self,
        request: Request<pb::GetFeatureViewRequest>,
    ) -> Result<Response<pb::FeatureView>, Status> {
        answered(self.view(request.get_ref()).await)
    }

    async fn apply_definitions(
        &self,
        request: Request<pb::ApplyDefinitionsRequest>,
    ) -> Result<Response<pb::ApplyDefinitionsResponse>, Status> {
        answered(self.apply(request.into_inner()).await)
    }
}
