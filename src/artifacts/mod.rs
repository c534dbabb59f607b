//! Where versions of models come from: MLflow's registry (`mlflow`), object stores and folders (`objects`). Implements
//! `VersionSource` of the domain.
//!
//! `http` is the one client of all of them, and lets through only the hosts that `hosts` allows.

mod aws_profile;
mod hosts;
mod http;
mod mlflow;
mod objects;

use std::{path::PathBuf, sync::Arc, time::Duration};

pub use self::{hosts::AllowedHosts, mlflow::MlflowServer};
use self::{
    http::Http,
    mlflow::{MlflowLocation, MlflowSource},
    objects::Objects,
};
use crate::{
    config::Secret,
    error::{Error, Result},
    inference::{VersionSource, VersionSources},
};

/// How sources are reached.
#[derive(Debug, Clone, Default)]
pub struct ArtifactOptions {
    /// The tracking server, or why it is none; not set: no location of MLflow can be read.
    pub mlflow: Option<Result<MlflowServer, String>>,
    /// Which hosts may be asked, the tracking server beside them.
    pub allowed_hosts: AllowedHosts,
    /// What the environment says of object stores: `AWS_…`, `GOOGLE_…`, `AZURE_…`.
    pub environment: Vec<(String, Secret)>,
    /// Where AWS's programs keep a user's credentials; none: nowhere.
    pub aws_credentials_file: Option<PathBuf>,
    /// Where they keep what is said of his profiles.
    pub aws_config_file: Option<PathBuf>,
    /// How long an answer may take to begin, and a body be silent.
    pub request_max: Duration,
}

/// Opens locations.
pub struct ArtifactSources {
    http: Arc<Http>,
    mlflow: Option<Result<MlflowServer, String>>,
    objects: Arc<Objects>,
}

impl ArtifactSources {
    /// Asks nobody yet.
    ///
    /// # Errors
    /// `FailedPrecondition` where the system has no certificates of authorities.
    pub fn new(options: ArtifactOptions) -> Result<ArtifactSources> {
        let mut hosts = options.allowed_hosts;
        if let Some(Ok(server)) = &options.mlflow {
            hosts.allow(server.authority());
        }
        let http = Arc::new(Http::new(hosts, options.request_max)?);
        Ok(ArtifactSources {
            objects: Arc::new(Objects {
                http: Arc::clone(&http),
                environment: options.environment,
                aws_credentials_file: options.aws_credentials_file,
                aws_config_file: options.aws_config_file,
                request_max: options.request_max,
            }),
            http,
            mlflow: options.mlflow,
        })
    }
}

impl VersionSources for ArtifactSources {
    fn at(&self, location: &str) -> Result<Arc<dyn VersionSource>> {
        let Some(of_mlflow) = MlflowLocation::parse(location)? else {
            return Ok(Arc::new(self.objects.folder(location)?));
        };
        let server = self.mlflow.clone().ok_or_else(|| {
            Error::failed_precondition(
                "no tracking server is set: mlflow.tracking_uri, or MLFLOW_TRACKING_URI in the environment",
            )
        })?;
        let server = server.map_err(|why| {
            Error::failed_precondition(format!(
                "mlflow.tracking_uri, or MLFLOW_TRACKING_URI: {why}"
            ))
        })?;
        Ok(Arc::new(MlflowSource::new(
            server,
            of_mlflow,
            Arc::clone(&self.http),
            Arc::clone(&self.objects),
        )))
    }
}
