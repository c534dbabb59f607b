//! What is defined: views and services described, definitions applied.

use crate::{
    catalog::{
        Action, ApplyOptions, Change, Definitions, FeatureService, FeatureView, Field, TtlCalendar,
        apply_definitions,
    },
    error::{Error, Result},
    features::{MaterializationRecord, ViewStatistics, watermark},
    grpc::{
        FeatureApi,
        convert::{wire_counts, wire_duration, wire_timestamp, wire_type},
        features::statistics::wire_statistics,
        pb,
    },
};

impl FeatureApi {
    /// Every view, as far as the catalog alone describes it.
    pub(in crate::grpc) fn list_views(&self) -> pb::ListFeatureViewsResponse {
        let catalog = self.catalog.snapshot();
        let feature_views = catalog.views.values().map(|view| wire_view(view)).collect();
        pb::ListFeatureViewsResponse { feature_views }
    }

    /// One view, what was loaded into it, and, where that is asked for, what its rows are like.
    pub(in crate::grpc) async fn view(
        &self,
        request: &pb::GetFeatureViewRequest,
    ) -> Result<pb::FeatureView> {
        let catalog = self.catalog.snapshot();
        let view = catalog.view(&request.view)?;
        let records = self.store.materializations(&view.name).await?;
        let statistics = match request.statistics {
            true => Some(self.statistics(view).await?),
            false => None,
        };
        Ok(describe_view(view, records, statistics))
    }

    pub(in crate::grpc) fn list_services(&self) -> pb::ListFeatureServicesResponse {
        let catalog = self.catalog.snapshot();
        let services = catalog.services.values().flat_map(|all| all.values());
        pb::ListFeatureServicesResponse {
            feature_services: services.map(|service| wire_service(service)).collect(),
        }
    }

    pub(in crate::grpc) async fn apply(
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
            allow_data_loss: request.allow_data_loss,
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

/// A view as GetFeatureView answers: its definition, what was loaded into it, and what its rows are like.
pub fn describe_view(
    view: &FeatureView,
    records: Vec<MaterializationRecord>,
    statistics: Option<ViewStatistics>,
) -> pb::FeatureView {
    pb::FeatureView {
        watermark: watermark(&records).map(wire_timestamp),
        materializations: records.into_iter().map(wire_record).collect(),
        statistics: statistics.map(wire_statistics),
        ..wire_view(view)
    }
}

fn wire_view(view: &FeatureView) -> pb::FeatureView {
    pb::FeatureView {
        name: view.name.clone(),
        project: view.project.clone(),
        description: view.description.clone(),
        entity: view.entity.clone(),
        join_keys: view.join_keys.iter().map(wire_field).collect(),
        features: view.features.iter().map(wire_field).collect(),
        ttl: view.ttl.and_then(wire_duration),
        ttl_calendar: view.ttl_calendar.as_ref().map(wire_calendar),
        source: view
            .source
            .as_ref()
            .map_or_else(String::new, |source| source.text().to_owned()),
        history: view.history,
        table: view
            .table
            .as_ref()
            .map_or_else(String::new, |table| table.name.clone()),
        ..pb::FeatureView::default()
    }
}

fn wire_calendar(calendar: &TtlCalendar) -> pb::TtlCalendar {
    pb::TtlCalendar {
        time_zone: calendar.time_zone().to_owned(),
        weekdays_off: calendar.weekdays_off().to_vec(),
        days_off: calendar.days_off().to_vec(),
    }
}

fn wire_field(field: &Field) -> pb::Field {
    pb::Field {
        name: field.name.clone(),
        r#type: wire_type(field.value_type).into(),
        description: field.description.clone(),
    }
}

fn wire_record(record: MaterializationRecord) -> pb::MaterializationRecord {
    pb::MaterializationRecord {
        source: record.note.source,
        result: Some(wire_counts(record.counts)),
        watermark: record.watermark.map(wire_timestamp),
        finished_at: Some(wire_timestamp(record.finished_at)),
    }
}

fn wire_service(service: &FeatureService) -> pb::FeatureServiceDefinition {
    pb::FeatureServiceDefinition {
        name: service.name.clone(),
        version: service.version,
        project: service.project.clone(),
        description: service.description.clone(),
        features: service.features.iter().map(ToString::to_string).collect(),
    }
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
