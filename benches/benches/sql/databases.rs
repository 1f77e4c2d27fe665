//! PostgreSQL, as a server of its own with Debian's default settings, and SQLite, within this process.

use std::fs;
use std::net::Ipv4Addr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgPoolOptions, PgSslMode};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{ConnectOptions as _, PgPool, SqlitePool};
use steeple_benches::processes::free_address;
use steeple_benches::{scratch_directory, usage};
use tempfile::TempDir;

/// What SPIRE's datastore keeps open unless told otherwise.
const CONNECTIONS_MAX: u32 = 100;

/// SPIRE closes a connection that nobody used for so long.
const IDLE_MAX: Duration = Duration::from_secs(30);

/// How long a caller waits for a connection.
const PATIENCE: Duration = Duration::from_secs(120);

/// Rows that a connection to SQLite reads ahead.
const ROWS_AHEAD: usize = 1_024;

/// Who owns everything in the database.
const USER: &str = "spire";

/// Where Debian's packages put the programs, below the version.
const PROGRAMS: &str = "/usr/lib/postgresql";

/// A server with an empty data directory.
pub(crate) struct PostgresServer {
    programs: PathBuf,
    data: PathBuf,
    port: u16,
    _directory: TempDir,
}

impl PostgresServer {
    /// Starts one; why there is none, if there is none.
    pub(crate) fn start() -> Result<Self, String> {
        let programs = programs().ok_or("no initdb found (Debian: apt-get install postgresql)")?;
        let directory = scratch_directory();
        // The server runs as another user when this process is root.
        let shared = fs::Permissions::from_mode(0o755);
        fs::set_permissions(directory.path(), shared).map_err(|error| error.to_string())?;
        let data = directory.path().join("postgres");
        fs::create_dir(&data).map_err(|error| error.to_string())?;
        if is_root() {
            run(Command::new("chown").arg("postgres").arg(&data))?;
        }
        let server = Self { programs, data, port: free_address().port(), _directory: directory };
        let make = ["--username", USER, "--auth", "trust", "--encoding", "UTF8"];
        run(server.program("initdb").arg("-D").arg(&server.data).args(make))?;
        let (port, sockets, address) = (server.port, server.data.display(), Ipv4Addr::LOCALHOST);
        let settings = format!("-p {port} -c listen_addresses={address} -c unix_socket_directories={sockets}");
        let log = server.data.join("server.log");
        run(server
            .program("pg_ctl")
            .arg("-D")
            .arg(&server.data)
            .arg("-w")
            .arg("-l")
            .arg(log)
            .args(["-o", &settings, "start"]))?;
        Ok(server)
    }

    /// One of its programs, as the user that it has to run as.
    fn program(&self, name: &str) -> Command {
        let program = self.programs.join(name);
        let mut command = if is_root() {
            let mut command = Command::new("runuser");
            command.args(["-u", "postgres", "--"]).arg(program);
            command
        } else {
            Command::new(program)
        };
        // Whatever directory this process is in, the other user may not be allowed to see it.
        command.current_dir("/");
        command
    }

    /// Connections to it, over loopback as SPIRE would have them.
    pub(crate) fn pool(&self) -> PgPool {
        let options = PgConnectOptions::new_without_pgpass()
            .host(&Ipv4Addr::LOCALHOST.to_string())
            .port(self.port)
            .username(USER)
            .database("postgres")
            .ssl_mode(PgSslMode::Disable)
            .disable_statement_logging();
        let pool = PgPoolOptions::new().max_connections(CONNECTIONS_MAX).idle_timeout(IDLE_MAX);
        pool.acquire_timeout(PATIENCE).test_before_acquire(false).connect_lazy_with(options)
    }

    /// CPU time of its processes.
    pub(crate) fn cpu(&self) -> Duration {
        let identification = fs::read_to_string(self.data.join("postmaster.pid")).unwrap_or_default();
        let Some(first) = identification.lines().next().and_then(|line| line.trim().parse().ok()) else {
            return Duration::ZERO;
        };
        usage::cpu(first) + usage::children(first).into_iter().map(usage::cpu).sum::<Duration>()
    }
}

impl Drop for PostgresServer {
    fn drop(&mut self) {
        // Nothing of it is needed any more.
        drop(run(self.program("pg_ctl").arg("-D").arg(&self.data).args(["-m", "immediate", "stop"])));
    }
}

/// Where the programs of the newest PostgreSQL are that can be run here.
fn programs() -> Option<PathBuf> {
    if is_root() && !succeeds(Command::new("id").arg("postgres")) {
        return None;
    }
    let versions = fs::read_dir(PROGRAMS).ok()?.filter_map(Result::ok);
    let version = |path: &Path| path.file_name()?.to_str()?.parse::<u32>().ok();
    let newest = versions.map(|entry| entry.path()).max_by_key(|path| version(path))?.join("bin");
    newest.join("initdb").exists().then_some(newest)
}

fn is_root() -> bool {
    // The owner of what describes this process is who it runs as.
    fs::metadata("/proc/self").is_ok_and(|metadata| std::os::unix::fs::MetadataExt::uid(&metadata) == 0)
}

fn succeeds(command: &mut Command) -> bool {
    command.stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|status| status.success())
}

/// Runs a command to its end. What it says goes nowhere: a server inherits it and would keep it open.
fn run(command: &mut Command) -> Result<(), String> {
    command.stdin(Stdio::null());
    if succeeds(command) { Ok(()) } else { Err(format!("{command:?} failed")) }
}

/// Connections to a file, in SPIRE's mode and with every commit synced.
pub(crate) fn sqlite(file: &Path) -> SqlitePool {
    let options = SqliteConnectOptions::new()
        .filename(file)
        .create_if_missing(true)
        .foreign_keys(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .row_buffer_size(ROWS_AHEAD)
        .disable_statement_logging();
    let pool = SqlitePoolOptions::new().max_connections(CONNECTIONS_MAX).idle_timeout(IDLE_MAX);
    pool.acquire_timeout(PATIENCE).test_before_acquire(false).connect_lazy_with(options)
}
