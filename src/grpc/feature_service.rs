//! FeatureService.

use std::sync::Arc;

use tonic::{Request, Response, Status};

use super::{
    RequestLimits,
    convert::{check_count, raw_rows, wire_status, wire_timestamp, wire_value, wire_view},
    pb::{self, feature_service_server::FeatureService},
    to_status,
};
use crate::{
    catalog::{
        Action, ApplyOptions, CatalogHandle, CatalogStore, Change, Definitions, FeatureRef,
        apply_definitions,
    },
    error::{Error, Result},
    features::{
        FeatureColumn, FeatureSelection, Freshness, OnlineStore, Timestamp, check_values,
        entity_keys, read_features, typed_rows,
    },
};

/// Answers FeatureService.
pub struct FeatureApi {
    /// What is defined.
    pub catalog: Arc<CatalogHandle>,
    /// Where definitions are kept.
    pub catalog_store: Arc<dyn CatalogStore>,
    /// Where features are kept.
    pub store: Arc<dyn OnlineStore>,
    /// How much one request may ask for.
    pub limits: RequestLimits,
}

#[tonic::async_trait]
impl FeatureService for FeatureApi {
    async fn get_online_features(
        &self,
        request: Request<pb::GetOnlineFeaturesRequest>,
    ) -> Result<Response<pb::GetOnlineFeaturesResponse>, Status> {
        let columns = self
            .read(request.into_inner())
            .await
            .map_err(|error| to_status(&error))?;
        let columns = columns.into_iter().map(wire_column).collect();
        Ok(Response::new(pb::GetOnlineFeaturesResponse {
            columns,
            ..pb::GetOnlineFeaturesResponse::default()
        }))
    }

    async fn write_features(
        &self,
        request: Request<pb::WriteFeaturesRequest>,
    ) -> Result<Response<pb::WriteFeaturesResponse>, Status> {
        let answer = self
            .write(request.into_inner())
            .await
            .map_err(|error| to_status(&error))?;
        Ok(Response::new(answer))
    }

    async fn stream_write_features(
        &self,
        _: Request<tonic::Streaming<pb::StreamWriteFeaturesRequest>>,
    ) -> Result<Response<Self::StreamWriteFeaturesStream>, Status> {
        Err(Status::unimplemented("not yet"))
    }

    type StreamWriteFeaturesStream =
        tokio_stream::Empty<Result<pb::StreamWriteFeaturesResponse, Status>>;

    async fn delete_entity(
        &self,
        _: Request<pb::DeleteEntityRequest>,
    ) -> Result<Response<pb::DeleteEntityResponse>, Status> {
        Err(Status::unimplemented("not yet"))
    }

    async fn materialize(
        &self,
        _: Request<pb::MaterializeRequest>,
    ) -> Result<Response<Self::MaterializeStream>, Status> {
        Err(Status::unimplemented("not yet"))
    }

    type MaterializeStream = tokio_stream::Empty<Result<pb::MaterializeProgress, Status>>;

    async fn get_historical_features(
        &self,
        _: Request<pb::GetHistoricalFeaturesRequest>,
    ) -> Result<Response<Self::GetHistoricalFeaturesStream>, Status> {
        Err(Status::unimplemented("not yet"))
    }

    type GetHistoricalFeaturesStream =
        tokio_stream::Empty<Result<pb::GetHistoricalFeaturesResponse, Status>>;

    async fn list_feature_services(
        &self,
        _: Request<pb::ListFeatureServicesRequest>,
    ) -> Result<Response<pb::ListFeatureServicesResponse>, Status> {
        Err(Status::unimplemented("not yet"))
    }

    async fn list_feature_views(
        &self,
        _: Request<pb::ListFeatureViewsRequest>,
    ) -> Result<Response<pb::ListFeatureViewsResponse>, Status> {
        let catalog = self.catalog.snapshot();
        let feature_views = catalog.views.values().map(|view| wire_view(view)).collect();
        Ok(Response::new(pb::ListFeatureViewsResponse {
            feature_views,
        }))
    }

    async fn get_feature_view(
        &self,
        request: Request<pb::GetFeatureViewRequest>,
    ) -> Result<Response<pb::FeatureView>, Status> {
        let catalog = self.catalog.snapshot();
        let view = catalog
            .view(&request.get_ref().view)
            .map_err(|error| to_status(&error))?;
        Ok(Response::new(wire_view(view)))
    }

    async fn apply_definitions(
        &self,
        request: Request<pb::ApplyDefinitionsRequest>,
    ) -> Result<Response<pb::ApplyDefinitionsResponse>, Status> {
        let answer = self
            .apply(request.into_inner())
            .await
            .map_err(|error| to_status(&error))?;
        Ok(Response::new(answer))
    }
}

impl FeatureApi {
    async fn read(&self, request: pb::GetOnlineFeaturesRequest) -> Result<Vec<FeatureColumn>> {
        check_count("features", request.features.len(), self.limits.features_max)?;
        check_count("entities", request.entities.len(), self.limits.entities_max)?;
        check_values(
            "entities",
            request.entities.len(),
            request.features.len(),
            self.limits.values_max,
        )?;
        let references = request
            .features
            .iter()
            .enumerate()
            .map(|(index, name)| feature_reference(index, name))
            .collect::<Result<_>>()?;
        let selection = FeatureSelection::resolve(&self.catalog.snapshot(), references)?;
        let keys = entity_keys(&selection, &raw_rows(request.entities))?;
        read_features(self.store.as_ref(), &selection, &keys, Freshness::now()).await
    }

    async fn write(&self, request: pb::WriteFeaturesRequest) -> Result<pb::WriteFeaturesResponse> {
        let catalog = self.catalog.snapshot();
        let view = catalog.view(&request.view)?;
        check_count("rows", request.rows.len(), self.limits.entities_max)?;
        let rows = typed_rows(view, &raw_rows(request.rows), Timestamp::now())?;
        let counts = self.store.write(view, rows).await?;
        Ok(pb::WriteFeaturesResponse {
            written: counts.written,
            late: counts.late,
        })
    }

    async fn apply(
        &self,
        request: pb::ApplyDefinitionsRequest,
    ) -> Result<pb::ApplyDefinitionsResponse> {
        let limit = self.limits.definitions_bytes_max;
        if request.definitions.len() > limit {
            return Err(Error::invalid(
                "definitions",
                format!("longer than the {limit} bytes that one request may have"),
            ));
        }
        let definitions = Definitions::parse(&request.definitions)?;
        let options = ApplyOptions {
            dry_run: request.dry_run,
            allow_data_loss: false,
        };
        let (plan, catalog) =
            apply_definitions(self.catalog_store.as_ref(), &definitions, options).await?;
        self.catalog.replace(catalog);
        Ok(pb::ApplyDefinitionsResponse {
            changes: plan.changes.into_iter().map(wire_change).collect(),
            applied: !request.dry_run,
        })
    }
}

fn feature_reference(index: usize, name: &str) -> Result<FeatureRef> {
    FeatureRef::parse(name).ok_or_else(|| {
        Error::invalid(
            format!("features[{index}]"),
            format!("\"{name}\" is not of the form view:feature"),
        )
    })
}

fn wire_column(column: FeatureColumn) -> pb::FeatureColumn {
    let count = column.values.len();
    let mut wire = pb::FeatureColumn {
        feature: column.reference.to_string(),
        values: Vec::with_capacity(count),
        statuses: Vec::with_capacity(count),
        event_timestamps: Vec::with_capacity(count),
        age_bound: None,
    };
    for value in &column.values {
        wire.values.push(wire_value(&value.value));
        wire.statuses.push(wire_status(value.status).into());
        wire.event_timestamps.push(wire_timestamp(
            value.event_timestamp.unwrap_or(Timestamp::EPOCH),
        ));
    }
    wire
}

fn wire_change(change: Change) -> pb::DefinitionChange {
    let action = match change.action {
        Action::Create => pb::definition_change::Action::Create,
        Action::Update => pb::definition_change::Action::Update,
        Action::Drop => pb::definition_change::Action::Drop,
    };
    pb::DefinitionChange {
        action: action.into(),
        kind: change.kind.to_owned(),
        name: change.name,
        details: change.details,
        losses: change.losses,
    }
}
