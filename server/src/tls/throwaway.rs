//! Certificates for trying things out: an authority whose key is kept nowhere, a certificate for each of a few nodes on
//! this machine, and one for an operator.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose, SanType,
};
use steeple_client::tls::IdentityFiles;
use thiserror::Error;

use super::{Material, TlsFiles};
use crate::authorization::{Pattern, Roles};

/// How long the certificates hold.
const LIFETIME: Duration = Duration::from_secs(90 * 24 * 3600);

/// Certificates that are there already are used again if they hold for so long still.
const LIFETIME_LEFT_MIN: Duration = Duration::from_secs(7 * 24 * 3600);

/// Clocks of other programs may be a little behind.
const SKEW: Duration = Duration::from_secs(3600);

/// What all of them are called.
const TRUST_DOMAIN: &str = "spiffe://steeple.dev";

/// Most nodes that get one.
const NODES_MAX: usize = 99;

/// Where the certificates are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Throwaway {
    /// Certificate of the authority.
    pub authority: PathBuf,
    /// Certificates and keys of the nodes 1, 2, 3, ...
    pub nodes: Vec<IdentityFiles>,
    /// Certificate and key of the operator, who may do everything.
    pub operator: IdentityFiles,
}

/// Why there are no certificates.
#[derive(Debug, Error)]
pub enum ThrowawayError {
    /// A file cannot be written.
    #[error("cannot write {path}: {source}", path = .path.display())]
    Write {
        /// Which file.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// A certificate cannot be made.
    #[error("cannot make a certificate: {0}")]
    Certificate(#[from] rcgen::Error),
    /// More nodes than anybody tries things out with.
    #[error("certificates for {0} nodes were asked for, at most {NODES_MAX} are made")]
    TooMany(usize),
}

/// Certificates for nodes 1 to `nodes` and an operator, in `directory`, which is created when it is missing. What is there
/// already is used again; if any of it is missing, of no use or about to expire, everything is made anew. Nodes are called
/// `localhost`, `127.0.0.1` and `::1`, and keys can be read by their owner only.
///
/// # Errors
/// See [`ThrowawayError`].
pub fn prepare(directory: &Path, nodes: usize) -> Result<Throwaway, ThrowawayError> {
    if nodes > NODES_MAX {
        return Err(ThrowawayError::TooMany(nodes));
    }
    let files = Throwaway::at(directory, nodes);
    if !files.usable(SystemTime::now() + LIFETIME_LEFT_MIN) {
        files.make(directory)?;
    }
    Ok(files)
}

/// Roles for these certificates: the operator may do everything, and the nodes may be nodes.
#[must_use]
pub fn roles() -> Roles {
    let pattern = |path: &str| Pattern::parse(&format!("{TRUST_DOMAIN}/{path}")).into_iter().collect();
    Roles { admin: pattern("operator"), peer: pattern("node/*"), ..Roles::default() }
}

impl Throwaway {
    fn at(directory: &Path, nodes: usize) -> Self {
        let identity = |name: &str| IdentityFiles {
            certificate: directory.join(format!("{name}.pem")),
            key: directory.join(format!("{name}-key.pem")),
        };
        Self {
            authority: directory.join("authority.pem"),
            nodes: (1..=nodes).map(|node| identity(&format!("node-{node}"))).collect(),
            operator: identity("operator"),
        }
    }

    /// What a node needs, for `[tls]`; none for a number that was not asked for. Numbers begin with 1.
    #[must_use]
    pub fn node(&self, number: usize) -> Option<TlsFiles> {
        let identity = self.nodes.get(number.checked_sub(1)?)?;
        Some(self.files_of(identity))
    }

    /// What the operator's client needs.
    #[must_use]
    pub fn client(&self) -> steeple_client::tls::TlsFiles {
        let IdentityFiles { certificate, key } = self.operator.clone();
        steeple_client::tls::TlsFiles::new(&self.authority).with_identity(certificate, key)
    }

    pub(crate) fn files_of(&self, identity: &IdentityFiles) -> TlsFiles {
        TlsFiles {
            certificate: identity.certificate.clone(),
            key: identity.key.clone(),
            authority: Some(self.authority.clone()),
        }
    }

    fn usable(&self, until: SystemTime) -> bool {
        let identities = self.nodes.iter().chain([&self.operator]);
        identities.map(|identity| self.files_of(identity)).all(|files| Material::load(&files, until).is_ok())
    }

    fn make(&self, directory: &Path) -> Result<(), ThrowawayError> {
        let created = DirBuilder::new().recursive(true).mode(0o700).create(directory);
        created.map_err(|source| ThrowawayError::Write { path: directory.to_owned(), source })?;
        let now = SystemTime::now();
        let authority = Authority::new("Steeple throw-away authority", now)?;
        write(&self.authority, &authority.certificate())?;
        for (place, identity) in self.nodes.iter().enumerate() {
            let number = place + 1;
            issue(&authority, identity, Subject::node(&format!("{TRUST_DOMAIN}/node/{number}"), now))?;
        }
        issue(&authority, &self.operator, Subject::named(&format!("{TRUST_DOMAIN}/operator"), now))
    }
}

fn issue(authority: &Authority, files: &IdentityFiles, subject: Subject) -> Result<(), ThrowawayError> {
    let (certificate, key) = authority.issue(subject)?;
    write(&files.certificate, &certificate)?;
    write(&files.key, &key)
}

/// Writes a file that only its owner can read, whoever could read the one before.
fn write(path: &Path, content: &str) -> Result<(), ThrowawayError> {
    let written = || {
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
        file.write_all(content.as_bytes())?;
        file.sync_all()
    };
    written().map_err(|source| ThrowawayError::Write { path: path.to_owned(), source })
}

/// Whom a certificate names, where he is reached, and for how long it holds.
#[derive(Clone, Debug)]
pub(crate) struct Subject {
    pub(crate) common_name: Option<String>,
    pub(crate) uris: Vec<String>,
    pub(crate) hosts: Vec<String>,
    pub(crate) addresses: Vec<IpAddr>,
    pub(crate) not_before: SystemTime,
    pub(crate) not_after: SystemTime,
}

impl Subject {
    /// Somebody with a SPIFFE ID.
    pub(crate) fn named(spiffe_id: &str, now: SystemTime) -> Self {
        Self {
            common_name: None,
            uris: vec![spiffe_id.to_owned()],
            hosts: Vec::new(),
            addresses: Vec::new(),
            not_before: now - SKEW,
            not_after: now + LIFETIME,
        }
    }

    /// A node on this machine.
    pub(crate) fn node(spiffe_id: &str, now: SystemTime) -> Self {
        Self {
            hosts: vec!["localhost".into()],
            addresses: vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()],
            ..Self::named(spiffe_id, now)
        }
    }
}

/// An authority; its key is gone with it.
pub(crate) struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    pub(crate) fn new(name: &str, now: SystemTime) -> Result<Self, rcgen::Error> {
        let mut parameters = parameters(Some(name), now - SKEW, now + LIFETIME);
        parameters.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        parameters.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        Ok(Self(CertifiedIssuer::self_signed(parameters, KeyPair::generate()?)?))
    }

    /// Its certificate in PEM.
    pub(crate) fn certificate(&self) -> String {
        self.0.pem()
    }

    /// A certificate and its key in PEM, for both ends of a connection.
    pub(crate) fn issue(&self, subject: Subject) -> Result<(String, String), rcgen::Error> {
        let mut parameters = parameters(subject.common_name.as_deref(), subject.not_before, subject.not_after);
        parameters.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        parameters.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        parameters.use_authority_key_identifier_extension = true;
        for uri in subject.uris {
            parameters.subject_alt_names.push(SanType::URI(uri.try_into()?));
        }
        for host in subject.hosts {
            parameters.subject_alt_names.push(SanType::DnsName(host.try_into()?));
        }
        parameters.subject_alt_names.extend(subject.addresses.into_iter().map(SanType::IpAddress));
        let key = KeyPair::generate()?;
        Ok((parameters.signed_by(&key, &self.0)?.pem(), key.serialize_pem()))
    }
}

fn parameters(common_name: Option<&str>, not_before: SystemTime, not_after: SystemTime) -> CertificateParams {
    let time =
        |time: SystemTime| rcgen::date_time_ymd(1970, 1, 1) + time.duration_since(UNIX_EPOCH).unwrap_or_default();
    let mut parameters = CertificateParams::default();
    parameters.distinguished_name = DistinguishedName::new();
    if let Some(name) = common_name {
        parameters.distinguished_name.push(DnType::CommonName, name);
    }
    parameters.not_before = time(not_before);
    parameters.not_after = time(not_after);
    parameters
}
