//! TLS as `sslmode` asks for it, with rustls.

use std::{path::Path, sync::Arc};

use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject},
};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::url::{RootCerts, SslMode, TlsParameters};
use crate::error::{Error, Result};

/// What servers of version 17 and later speak on a connection that begins with TLS.
const ALPN_PROTOCOL: &[u8] = b"postgresql";

/// How far a server's certificate is checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Check {
    Nothing,
    Authority,
    AuthorityAndName,
}

/// Makes the connector for a connection string's parameters.
///
/// # Errors
/// `FailedPrecondition` where a certificate or key cannot be read; the file is named.
pub(super) fn connector(parameters: &TlsParameters) -> Result<MakeRustlsConnect> {
    let provider = Arc::new(ring::default_provider());
    let check = match parameters.mode {
        SslMode::VerifyFull => Check::AuthorityAndName,
        SslMode::VerifyCa => Check::Authority,
        // libpq does the same, for the sake of old configurations.
        SslMode::Require if parameters.roots.is_some() => Check::Authority,
        SslMode::Disable | SslMode::Allow | SslMode::Prefer | SslMode::Require => Check::Nothing,
    };
    let verifier = Verifier {
        authority: match check {
            Check::Nothing => None,
            Check::Authority | Check::AuthorityAndName => {
                let roots = Arc::new(roots(parameters.roots.as_ref())?);
                let built =
                    WebPkiServerVerifier::builder_with_provider(roots, Arc::clone(&provider))
                        .build();
                Some(built.map_err(|error| unusable("the root certificates", error))?)
            }
        },
        checks_name: check == Check::AuthorityAndName,
        provider: Arc::clone(&provider),
    };
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| unusable("TLS", error))?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier));
    let mut config = match (&parameters.client_cert, &parameters.client_key) {
        (Some(cert), Some(key)) => {
            let key_pem = PrivateKeyDer::from_pem_file(key)
                .map_err(|error| unusable(&format!("sslkey {}", key.display()), error))?;
            builder
                .with_client_auth_cert(certificates("sslcert", cert)?, key_pem)
                .map_err(|error| unusable(&format!("sslcert {}", cert.display()), error))?
        }
        _ => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![ALPN_PROTOCOL.to_vec()];
    Ok(MakeRustlsConnect::new(config))
}

fn roots(source: Option<&RootCerts>) -> Result<RootCertStore> {
    let mut store = RootCertStore::empty();
    match source {
        Some(RootCerts::File(path)) => {
            for certificate in certificates("sslrootcert", path)? {
                store
                    .add(certificate)
                    .map_err(|error| unusable(&format!("sslrootcert {}", path.display()), error))?;
            }
        }
        Some(RootCerts::System) | None => {
            store.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
    }
    if store.is_empty() {
        return Err(Error::failed_precondition(
            "no trusted root certificate was found on this machine; install ca-certificates or give sslrootcert",
        ));
    }
    Ok(store)
}

fn certificates(parameter: &str, path: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let fault = |error| unusable(&format!("{parameter} {}", path.display()), error);
    let read: Vec<CertificateDer<'static>> = CertificateDer::pem_file_iter(path)
        .map_err(fault)?
        .collect::<std::result::Result<_, _>>()
        .map_err(fault)?;
    if read.is_empty() {
        return Err(Error::failed_precondition(format!(
            "{parameter} {}: it holds no PEM certificate",
            path.display()
        )));
    }
    Ok(read)
}

fn unusable(what: &str, error: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::failed_precondition(format!("{what} cannot be used: {error}")).with_source(error)
}

/// Checks a server's certificate as far as is asked; its possession of the key always.
#[derive(Debug)]
struct Verifier {
    authority: Option<Arc<WebPkiServerVerifier>>,
    checks_name: bool,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> std::result::Result<ServerCertVerified, rustls::Error> {
        let Some(authority) = &self.authority else {
            return Ok(ServerCertVerified::assertion());
        };
        let verified = authority.verify_server_cert(
            end_entity,
            intermediates,
            server_name,
            ocsp_response,
            now,
        );
        match verified {
            // The name is checked last, so everything else was right.
            Err(rustls::Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) if !self.checks_name => Ok(ServerCertVerified::assertion()),
            other => other,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, cert, dss, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}
