//! `steeple dev --nodes N`: a group of nodes on this machine, each a process of its own.
//!
//! The processes are those that `steeple serve` would start from the files that are written here, so that one of them
//! can be killed and started again like a node of a real cluster. They prove to each other who they are, with certificates
//! that are made for the purpose.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use steeple_client::Client;
use steeple_client::tls::TlsFiles;
use tokio::process::{Child, Command};

use super::exit::CommandError;
use super::output::print_line;
use super::serve::shutdown_signal;
use crate::config::{Config, Founder, TlsConfig, to_toml};
use crate::tls::throwaway::{self, Throwaway};

/// Nodes at the most; nobody tries out more on one machine.
pub(super) const NODES_MAX: u64 = 9;

/// Ports of one node: gRPC, HTTP, peers.
const PORTS: u16 = 10;

/// How long the nodes may take to stop.
const FAREWELL: Duration = Duration::from_secs(15);

/// How often it is looked whether a node has ended.
const LOOK_AGAIN: Duration = Duration::from_millis(200);

/// One node of the group.
struct Member {
    number: u64,
    config: Config,
    file: PathBuf,
    log: PathBuf,
    process: Option<Child>,
}

/// Runs the nodes until this process is told to stop. Unless they are to be `unencrypted` or the configuration names
/// certificates, some are made.
pub(super) fn run(config: &Config, nodes: u64, unencrypted: bool) -> Result<(), CommandError> {
    let failed = |source| CommandError::Failed(format!("cannot start the runtime: {source}"));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
    runtime.block_on(async {
        let shutdown = shutdown_signal()?;
        let mut members = plan(config, nodes)?;
        let made =
            if unencrypted || config.tls.files().is_some() { None } else { Some(encrypt(config, &mut members)?) };
        for member in &mut members {
            member.start()?;
        }
        print_line(&format!("Starting {nodes} nodes, which elect a leader ..."))?;
        let greeting = welcome(&members, made.as_ref());
        let served = until_served(endpoints(&members), client_identity(made.as_ref()), config.node.namespace.clone());
        let greet = async {
            // With certificates of the operator's own, nothing here can call the nodes.
            if made.is_some() || config.tls.files().is_none() {
                served.await?;
            }
            print_line(&greeting)
        };
        tokio::select! {
            () = shutdown => {}
            result = async { tokio::try_join!(greet, watch(&mut members)) } => drop(result?),
        }
        stop(&mut members).await;
        Ok(())
    })
}

/// What each node is told.
fn plan(config: &Config, nodes: u64) -> Result<Vec<Member>, CommandError> {
    let address = |base: SocketAddr, number: u64, offset: u16| -> Result<SocketAddr, CommandError> {
        let place = u16::try_from(number - 1).unwrap_or(u16::MAX);
        let port = place.checked_mul(PORTS).and_then(|step| base.port().checked_add(step + offset));
        let port =
            port.ok_or_else(|| CommandError::Failed(format!("port {} leaves no room for {nodes} nodes", base.port())))?;
        Ok(SocketAddr::new(base.ip(), port))
    };
    let (grpc, http) = (config.node.listen, config.node.http_listen);
    let mut initial = Vec::new();
    for number in 1..=nodes {
        let (peer, client) = (address(grpc, number, 2)?, address(grpc, number, 0)?);
        initial.push(Founder { node: number, peer_address: peer.to_string(), client_address: client.to_string() });
    }
    let data = &config.node.data;
    let mut members = Vec::new();
    for number in 1..=nodes {
        let mut own = config.clone();
        own.node.data = data.join(format!("node-{number}"));
        own.node.listen = address(grpc, number, 0)?;
        own.node.http_listen = address(http, number, 0)?;
        own.cluster.node = number;
        own.cluster.listen = address(grpc, number, 2)?;
        own.cluster.initial.clone_from(&initial);
        let file = data.join(format!("node-{number}.toml"));
        let log = data.join(format!("node-{number}.log"));
        members.push(Member { number, config: own, file, log, process: None });
    }
    Ok(members)
}

/// Gives each node a certificate.
fn encrypt(config: &Config, members: &mut [Member]) -> Result<Throwaway, CommandError> {
    let failed = |error: &dyn std::fmt::Display| CommandError::Failed(format!("cannot make certificates: {error}"));
    // Whole paths, because they are typed in other terminals as well.
    let directory = std::path::absolute(config.node.data.join("certificates")).map_err(|error| failed(&error))?;
    let made = throwaway::prepare(&directory, members.len()).map_err(|error| failed(&error))?;
    for (place, member) in members.iter_mut().enumerate() {
        if let Some(files) = made.node(place + 1) {
            let (certificate, key) = (Some(files.certificate), Some(files.key));
            member.config.tls = TlsConfig { certificate, key, authority: files.authority };
            member.config.roles = throwaway::roles();
        }
    }
    Ok(made)
}

impl Member {
    fn start(&mut self) -> Result<(), CommandError> {
        let failed = |action: &str, path: &Path, source: std::io::Error| {
            CommandError::Failed(format!("cannot {action} {}: {source}", path.display()))
        };
        let directory = self.file.parent().unwrap_or(Path::new("."));
        fs::create_dir_all(directory).map_err(|error| failed("create", directory, error))?;
        fs::write(&self.file, to_toml(&self.config)).map_err(|error| failed("write", &self.file, error))?;
        let log = File::options().create(true).append(true).open(&self.log);
        let log = log.map_err(|error| failed("write", &self.log, error))?;
        let program = std::env::current_exe().map_err(|error| failed("find", Path::new("this program"), error))?;
        let child = Command::new(&program)
            .args(["serve", "--config"])
            .arg(&self.file)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            // The terminal's Ctrl-C is for this process, which stops the nodes in order.
            .process_group(0)
            .spawn()
            .map_err(|error| failed("start", &program, error))?;
        self.process = Some(child);
        Ok(())
    }

    fn process_id(&self) -> Option<u32> {
        self.process.as_ref().and_then(Child::id)
    }
}

/// Where the nodes are called.
fn endpoints(members: &[Member]) -> Vec<String> {
    let scheme = if members.iter().any(|member| member.config.tls.files().is_some()) { "https" } else { "http" };
    members.iter().map(|member| format!("{scheme}://{}", member.config.node.listen)).collect()
}

/// What an operator shows to the nodes.
fn client_identity(certificates: Option<&Throwaway>) -> Option<TlsFiles> {
    let made = certificates?;
    let files = TlsFiles::new(made.authority.clone());
    Some(files.with_identity(made.operator.certificate.clone(), made.operator.key.clone()))
}

/// Waits for an answer that only a group with a leader gives: what is typed after the greeting finds one, and the
/// namespace that the first leader opens.
async fn until_served(
    endpoints: Vec<String>,
    identity: Option<TlsFiles>,
    namespace: String,
) -> Result<(), CommandError> {
    loop {
        let connected = match identity.clone() {
            Some(identity) => Client::connect_encrypted(endpoints.clone(), identity).await,
            None => Client::connect(endpoints.clone()).await,
        };
        if let Ok(client) = connected
            && (namespace.is_empty() || client.namespace(&namespace).count_bundles().await.is_ok())
        {
            return Ok(());
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

/// Says when a node has ended, and how it is started again; ends when all have.
async fn watch(members: &mut [Member]) -> Result<(), CommandError> {
    let program = std::env::current_exe().map_or_else(|_| "steeple".into(), |program| program.display().to_string());
    loop {
        for member in members.iter_mut() {
            let ended = member.process.as_mut().and_then(|process| process.try_wait().ok().flatten());
            if let Some(status) = ended {
                member.process = None;
                print_line(&format!(
                    "\nNode {} has ended ({status}). Start it again with\n\n  {program} serve --config {} &\n",
                    member.number,
                    member.file.display()
                ))?;
            }
        }
        if members.iter().all(|member| member.process.is_none()) {
            return Err(CommandError::Failed(format!("all nodes have ended; {} says why", members[0].log.display())));
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

/// Stops the nodes that this process has started.
async fn stop(members: &mut [Member]) {
    for member in members.iter() {
        let id = member.process_id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
        if let Some(id) = id {
            // It may have ended by itself.
            let _ = kill_process(id, Signal::TERM);
        }
    }
    let ended = async {
        for process in members.iter_mut().filter_map(|member| member.process.as_mut()) {
            drop(process.wait().await);
        }
    };
    drop(tokio::time::timeout(FAREWELL, ended).await);
}

fn welcome(members: &[Member], certificates: Option<&Throwaway>) -> String {
    let mut text = format!("Steeple {} is serving with {} nodes.\n\n", env!("CARGO_PKG_VERSION"), members.len());
    let scheme = if members.iter().any(|member| member.config.tls.files().is_some()) { "https" } else { "http" };
    for member in members {
        let Config { node, .. } = &member.config;
        text.push_str(&format!(
            "  node {}  gRPC {scheme}://{}  metrics http://{}/metrics  process {}\n",
            member.number,
            node.listen,
            node.http_listen,
            member.process_id().unwrap_or(0)
        ));
    }
    let endpoints = endpoints(members).join(",");
    let data = members[0].file.parent().unwrap_or(Path::new(".")).display().to_string();
    let access = match scheme {
        "https" => "Connections are encrypted, and both sides prove who they are (docs/security.md).",
        _ => "Nothing is encrypted: only programs on this machine can connect.",
    };
    let identity = certificates.map(|made| {
        format!(
            "\n  export STEEPLE_CLIENT_CA={}\n  export STEEPLE_CLIENT_CERTIFICATE={}\n  export STEEPLE_CLIENT_KEY={}",
            made.authority.display(),
            made.operator.certificate.display(),
            made.operator.key.display()
        )
    });
    let identity = identity.unwrap_or_default();
    text.push_str(&format!(
        "  data    {data}/node-1, ... (with node-1.log, ...)

{access} Any node will do; try in another terminal:

  export STEEPLE_ENDPOINT={endpoints}{identity}
  steeple cluster status
  steeple load --agents 1000 --entries 10000
  steeple cluster transfer-leader 2
  kill -9 PROCESS     (of the leader, in the middle of a load)

Ctrl-C stops all nodes; everything acknowledged is kept."
    ));
    text
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;
    use crate::config::Overrides;
    use crate::tls::Material;

    #[test]
    fn nodes_have_ports_and_places_of_their_own_and_know_each_other() {
        let members = plan(&Config::default(), 3).unwrap();
        let listens: Vec<_> = members.iter().map(|member| member.config.node.listen.port()).collect();
        assert_eq!(listens, [7400, 7410, 7420]);
        let initial: Vec<_> = members.iter().map(|member| member.config.cluster.initial.clone()).collect();
        assert!(initial.iter().all(|one| *one == initial[0] && one.len() == 3), "{initial:?}");
        assert_eq!(initial_text(&initial[0]), "1=127.0.0.1:7402/127.0.0.1:7400");
        assert_ne!(members[0].config.node.data, members[1].config.node.data);
    }

    #[test]
    fn nodes_get_certificates_that_the_welcome_says_how_to_use() {
        let directory = tempfile::tempdir().unwrap();
        let mut config = Config::default();
        config.node.data = directory.path().to_owned();
        let mut members = plan(&config, 3).unwrap();
        assert!(welcome(&members, None).contains("STEEPLE_ENDPOINT=http://127.0.0.1:7400,http://"));
        let made = encrypt(&config, &mut members).unwrap();
        for member in &members {
            let text = to_toml(&member.config);
            let loaded = Config::parse(&text, &member.file, &Overrides::default()).unwrap();
            Material::load(&loaded.tls.files().unwrap(), SystemTime::now()).unwrap();
            assert_eq!(loaded.roles, throwaway::roles());
        }
        assert_ne!(members[0].config.tls, members[1].config.tls);
        let text = welcome(&members, Some(&made));
        assert!(text.contains("STEEPLE_ENDPOINT=https://127.0.0.1:7400,https://"), "{text}");
        assert!(text.contains(&format!("STEEPLE_CLIENT_CA={}", made.authority.display())), "{text}");
    }

    fn initial_text(initial: &[Founder]) -> String {
        initial[0].to_string()
    }

    #[test]
    fn ports_beyond_the_last_one_are_refused() {
        let mut config = Config::default();
        config.node.listen.set_port(65_530);
        assert!(plan(&config, 2).is_err());
    }
}
