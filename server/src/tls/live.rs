//! The material in use, and following the files.

use std::sync::{Arc, Weak};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use parking_lot::{Mutex, RwLock};
use steeple_client::tls::{ClientConfig, Connector, TlsError};
use tokio::sync::watch;
use tokio_rustls::rustls::ServerConfig;

use super::material::{Content, Material, MaterialError, TlsFiles};

/// How often the files are looked at. They are read, not watched: what mounts secrets swaps whole directories, and
/// notifications get lost on some file systems.
pub const RELOAD_INTERVAL: Duration = Duration::from_secs(5);

/// What a look at the files brought.
#[derive(Debug)]
pub enum Reloaded {
    /// They hold what they held before.
    Unchanged,
    /// What they hold is in use from now on.
    Changed,
    /// What they hold is of no use; what was loaded before stays in use.
    Kept(MaterialError),
}

/// The material in use. Clones share it.
#[derive(Clone, Debug)]
pub struct Tls(Arc<Live>);

#[derive(Debug)]
struct Live {
    files: TlsFiles,
    current: RwLock<Arc<Material>>,
    /// What `current` was made from.
    content: Mutex<Content>,
    /// Counts the times that other material was taken into use.
    generation: watch::Sender<u64>,
}

impl Tls {
    /// Loads the files.
    ///
    /// # Errors
    /// When they are of no use; see [`MaterialError`].
    pub fn load(files: TlsFiles) -> Result<Self, MaterialError> {
        let content = Content::read(&files)?;
        let material = Material::new(&content, SystemTime::now())?;
        let current = RwLock::new(Arc::new(material));
        let generation = watch::Sender::new(0);
        Ok(Self(Arc::new(Live { files, current, content: Mutex::new(content), generation })))
    }

    /// Settings for the next connection that somebody makes to this node.
    #[must_use]
    pub fn server_config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.0.current.read().server)
    }

    /// The material in use.
    #[must_use]
    pub fn material(&self) -> Arc<Material> {
        Arc::clone(&self.0.current.read())
    }

    /// Whether others have to prove who they are.
    #[must_use]
    pub fn verifies_clients(&self) -> bool {
        self.0.files.authority.is_some()
    }

    /// Makes connections to other nodes, which have to show a certificate of the authority for the host of their address
    /// and are shown this node's.
    #[must_use]
    pub fn connector(&self) -> Connector {
        let live = Arc::clone(&self.0);
        Connector::new(move || live.client_config())
    }

    /// Looks at the files once.
    pub fn reload(&self) -> Reloaded {
        self.0.reload()
    }

    /// Counts the times that other material was taken into use.
    #[must_use]
    pub fn generation(&self) -> watch::Receiver<u64> {
        self.0.generation.subscribe()
    }

    /// Looks at the files every `interval`, until the last clone is gone.
    pub fn follow(&self, interval: Duration) {
        let live = Arc::downgrade(&self.0);
        tokio::spawn(follow(live, interval));
    }
}

impl Live {
    fn client_config(&self) -> Result<Arc<ClientConfig>, TlsError> {
        self.current.read().client.clone().ok_or(TlsError::NoAuthority)
    }

    fn reload(&self) -> Reloaded {
        let mut loaded = self.content.lock();
        let content = match Content::read(&self.files) {
            Ok(content) if content == *loaded => return Reloaded::Unchanged,
            Ok(content) => content,
            Err(error) => return Reloaded::Kept(error.into()),
        };
        let material = match Material::new(&content, SystemTime::now()) {
            Ok(material) => material,
            Err(error) => return Reloaded::Kept(error),
        };
        *self.current.write() = Arc::new(material);
        *loaded = content;
        self.generation.send_modify(|generation| *generation += 1);
        Reloaded::Changed
    }
}

async fn follow(live: Weak<Live>, interval: Duration) {
    let mut ticks = tokio::time::interval(interval);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut trouble = None;
    loop {
        ticks.tick().await;
        let Some(live) = live.upgrade() else { return };
        let looked = tokio::task::spawn_blocking(move || {
            let reloaded = live.reload();
            // Said again and again, because metrics may not have been recorded from the beginning.
            record_expiry(&live.current.read());
            (reloaded, expired(&live))
        });
        let looked = looked.await;
        let Ok((reloaded, expired)) = looked else { continue };
        trouble = report(reloaded, expired, trouble);
    }
}

/// Says what is new, once; returns what is wrong now.
fn report(reloaded: Reloaded, expired: bool, before: Option<String>) -> Option<String> {
    let now = match reloaded {
        Reloaded::Kept(error) => {
            metrics::counter!("steeple_tls_reload_failures_total").increment(1);
            Some(format!("the certificate files are of no use, and what was loaded before stays in use: {error}"))
        }
        Reloaded::Changed => {
            metrics::counter!("steeple_tls_reloads_total").increment(1);
            tracing::info!("certificates were loaded anew; connections made from now on use them");
            None
        }
        Reloaded::Unchanged => None,
    };
    let now = now.or_else(|| expired.then(|| "the node's certificate has expired; others refuse it".to_owned()));
    if let Some(trouble) = now.as_ref().filter(|now| before.as_ref() != Some(*now)) {
        tracing::warn!("{trouble}");
    }
    now
}

fn expired(live: &Live) -> bool {
    live.current.read().certificate.check(SystemTime::now()).is_err()
}

fn record_expiry(material: &Material) {
    let expires = material.certificate.not_after.duration_since(UNIX_EPOCH).unwrap_or_default();
    metrics::gauge!("steeple_tls_certificate_expires_timestamp_seconds").set(expires.as_secs_f64());
}
