//! How a host and a plugin find each other: the environment that the host gives, and the line that the plugin prints.

use std::ffi::OsString;
use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use thiserror::Error;

/// Name and value of the variable by which a host shows that it is one: the type of the plugin.
const COOKIE: &str = "DataStore";

/// The version of the plugin's own protocol.
const VERSION: u32 = 1;
const VERSIONS_VARIABLE: &str = "PLUGIN_PROTOCOL_VERSIONS";

/// Where the host wants sockets to be, if it says so.
const DIRECTORY_VARIABLE: &str = "PLUGIN_UNIX_SOCKET_DIR";

/// A host that sets it wants encrypted connections, which SPIRE does not.
const CERTIFICATE_VARIABLE: &str = "PLUGIN_CLIENT_CERT";

/// What fits into the address of a socket on every system.
const PATH_BYTES_MAX: usize = 100;

/// Why the process is no plugin.
#[derive(Debug, Error)]
pub enum HandshakeError {
    /// Nobody who would use it has started it.
    #[error(
        "this is a plugin, which a SPIRE server starts: put plugin_cmd = \"/path/of/steeple\" and plugin_args = \
         [\"spire-plugin\"] into a DataStore block of the server's configuration"
    )]
    NoHost,
    /// The host speaks other versions.
    #[error("the host offers the versions {offered} of the plugin protocol, and not {VERSION}")]
    Version {
        /// What it offers.
        offered: String,
    },
    /// The host wants something that SPIRE never wants.
    #[error("the host wants encrypted connections to plugins, which this one does not have")]
    Encrypted,
    /// There is no place for the socket.
    #[error("cannot make a directory for the socket at {path}: {source}", path = path.display())]
    Directory {
        /// Where.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The place is too far down.
    #[error("{path} is too long for a socket; set TMPDIR to a shorter one", path = path.display())]
    PathTooLong {
        /// Where.
        path: PathBuf,
    },
}

/// A directory for the socket that nobody else can enter. Removed with what is in it.
#[derive(Debug)]
pub(crate) struct SocketPlace {
    directory: PathBuf,
}

impl SocketPlace {
    /// Looks whether a host has started the process, and makes a place for the socket.
    pub(crate) fn prepare(variable: impl Fn(&str) -> Option<OsString>) -> Result<Self, HandshakeError> {
        if variable(COOKIE).is_none_or(|value| value != COOKIE) {
            return Err(HandshakeError::NoHost);
        }
        if variable(CERTIFICATE_VARIABLE).is_some_and(|value| !value.is_empty()) {
            return Err(HandshakeError::Encrypted);
        }
        if let Some(offered) = variable(VERSIONS_VARIABLE) {
            let offered = offered.to_string_lossy().into_owned();
            if !offered.split(',').any(|version| version.trim().parse() == Ok(VERSION)) {
                return Err(HandshakeError::Version { offered });
            }
        }
        let parent = variable(DIRECTORY_VARIABLE).filter(|value| !value.is_empty());
        let parent = parent.map_or_else(std::env::temp_dir, PathBuf::from);
        let directory = parent.join(format!("steeple-{}-{:08x}", std::process::id(), rand::random::<u32>()));
        let place = std::path::absolute(&directory).unwrap_or(directory);
        if place.join(SOCKET).as_os_str().len() > PATH_BYTES_MAX {
            return Err(HandshakeError::PathTooLong { path: place });
        }
        DirBuilder::new()
            .mode(0o700)
            .create(&place)
            .map_err(|source| HandshakeError::Directory { path: place.clone(), source })?;
        Ok(Self { directory: place })
    }

    /// Where the socket is to be.
    pub(crate) fn socket(&self) -> PathBuf {
        self.directory.join(SOCKET)
    }
}

impl Drop for SocketPlace {
    fn drop(&mut self) {
        // It is in a directory for what may go at any time.
        drop(fs::remove_dir_all(&self.directory));
    }
}

const SOCKET: &str = "plugin.sock";

/// What the host waits for on standard output: version of its library's protocol, of the plugin's, and where it listens.
pub(crate) fn line(socket: &Path) -> String {
    format!("1|{VERSION}|unix|{}|grpc\n", socket.display())
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn prepare(variables: &[(&str, &str)]) -> Result<SocketPlace, HandshakeError> {
        let variables: HashMap<_, _> = variables.iter().copied().collect();
        SocketPlace::prepare(|name| variables.get(name).map(OsString::from))
    }

    #[test]
    fn only_a_host_of_datastores_gets_one() {
        assert!(matches!(prepare(&[]), Err(HandshakeError::NoHost)));
        assert!(matches!(prepare(&[("DataStore", "KeyManager")]), Err(HandshakeError::NoHost)));
        let versions = |offered| prepare(&[("DataStore", "DataStore"), ("PLUGIN_PROTOCOL_VERSIONS", offered)]);
        assert!(matches!(versions("2,3"), Err(HandshakeError::Version { .. })));
        assert!(versions("2, 1").is_ok());
        let encrypted = prepare(&[("DataStore", "DataStore"), ("PLUGIN_CLIENT_CERT", "pem")]);
        assert!(matches!(encrypted, Err(HandshakeError::Encrypted)));
    }

    #[test]
    fn the_socket_is_where_the_host_wants_it_and_nobody_else_reaches_it() {
        let parent = tempfile::tempdir().unwrap();
        let directory = parent.path().to_str().unwrap();
        let place = prepare(&[("DataStore", "DataStore"), ("PLUGIN_UNIX_SOCKET_DIR", directory)]).unwrap();
        assert!(place.socket().starts_with(directory));
        assert_eq!(fs::metadata(&place.directory).unwrap().permissions().mode() & 0o777, 0o700);
        fs::write(place.socket(), "").unwrap();
        assert_eq!(line(Path::new("/a/b.sock")), "1|1|unix|/a/b.sock|grpc\n");
        drop(place);
        assert_eq!(fs::read_dir(directory).unwrap().count(), 0);
    }

    #[test]
    fn a_path_that_is_too_long_is_refused() {
        let long = format!("/{}", "x".repeat(100));
        let refused = prepare(&[("DataStore", "DataStore"), ("PLUGIN_UNIX_SOCKET_DIR", &long)]);
        assert!(matches!(refused, Err(HandshakeError::PathTooLong { .. })));
    }
}
