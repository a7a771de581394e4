//! TLS 1.2 and 1.3, with a certificate that can be exchanged while connections go on.
use crate::files;
use crate::problem::{Problem, Result};
use sha2::{Digest, Sha256};
use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// What new connections are met with.
pub struct Tls {
    config: RwLock<Arc<ServerConfig>>,
}

impl Tls {
    pub fn new(config: Arc<ServerConfig>) -> Tls {
        Tls { config: RwLock::new(config) }
    }

    /// From now on.
    pub fn replace(&self, config: Arc<ServerConfig>) {
        *self.config.write().unwrap_or_else(PoisonError::into_inner) = config;
    }

    pub fn acceptor(&self) -> TlsAcceptor {
        self.config.read().unwrap_or_else(PoisonError::into_inner).clone().into()
    }
}

/// Reads a certificate, with those that lead from it to an authority, and its key, both in PEM form. Answers with the
/// certificate's SHA-256, too, as `openssl x509 -fingerprint -sha256` shows it.
pub fn load(certificate: &Path, key: &Path) -> Result<(Arc<ServerConfig>, String)> {
    let wrong = |path: &Path, e: &dyn std::fmt::Display| Problem::bad(format!("{}: {e}", path.display()));
    let pem = files::read_trusted(certificate)?;
    let chain: std::result::Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    let chain = chain.map_err(|e| wrong(certificate, &e))?;
    let Some(first) = chain.first() else {
        return Err(wrong(
            certificate,
            &"there is no certificate in it, which begins with -----BEGIN CERTIFICATE-----",
        ));
    };
    let fingerprint: Vec<String> = Sha256::digest(first).iter().map(|byte| format!("{byte:02X}")).collect();
    let pem = files::read_secret(key)?;
    let private = PrivateKeyDer::from_pem_slice(&pem)
        .map_err(|_| wrong(key, &"there is no key in it that is in PEM form and needs no passphrase"))?;
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|e| Problem::internal(format!("TLS cannot be used: {e}")))?;
    let config = config.with_no_client_auth().with_single_cert(chain, private);
    let mut config = config.map_err(|e| {
        Problem::bad(format!("{} and {} cannot be used together: {e}", certificate.display(), key.display()))
    })?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok((Arc::new(config), fingerprint.join(":")))
}
