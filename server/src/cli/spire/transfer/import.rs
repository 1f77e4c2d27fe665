//! Taking a namespace over from a database of a SPIRE server or from an export.

use clap::Args;
use prost::Message as _;
use serde_json::{Value, json};
use steeple_client::types::{Import, ImportedRecord};
use steeple_client::{Error, ImportBatch, Namespace};
use steeple_wire::status::ErrorKind;
use tonic::Code;

use super::compare::Comparison;
use super::judge::{Judge, Survey};
use super::kind::{Kind, imported};
use super::origin::{Found, Origin, Place};
use super::progress::Progress;
use crate::cli::connection::Target;
use crate::cli::exit::CommandError;
use crate::cli::output::{Output, print_json, print_line, table};

/// Records in one message at the most, and bytes after which it takes no more.
const BATCH_RECORDS: usize = 1_000;
const BATCH_BYTES: usize = 2 << 20;

/// Refused records that people are shown.
const SHOWN_MAX: usize = 50;

/// Longest description of a source, in bytes.
const SOURCE_BYTES_MAX: usize = 1_024;

/// What is read.
#[derive(Clone, Debug, Args)]
pub(in crate::cli) struct SourceArgs {
    /// sqlite:FILE, postgres://USER:PASSWORD@HOST/DATABASE, mysql://USER:PASSWORD@HOST/DATABASE, or jsonl:FILE. What SPIRE's
    /// configuration has as connection_string will do behind `postgres:` and `mysql:`
    #[arg(long, value_name = "SOURCE", env = "STEEPLE_IMPORT_FROM", hide_env_values = true)]
    from: Place,
    /// How far times of a MySQL database are ahead of UTC, if the server's connection string had `loc`
    #[arg(long, value_name = "OFFSET", default_value = "UTC", value_parser = parse_offset, allow_hyphen_values = true)]
    time_zone: i32,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct ImportArgs {
    #[command(flatten)]
    source: SourceArgs,
    /// Only look what would be imported, and what would be refused and why
    #[arg(long)]
    dry_run: bool,
    /// Leave out what cannot be taken over, instead of importing nothing
    #[arg(long)]
    skip_refused: bool,
    /// Do not compare both sides at the end
    #[arg(long, conflicts_with = "dry_run")]
    skip_verification: bool,
    #[command(flatten)]
    target: Target,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct VerifyArgs {
    #[command(flatten)]
    source: SourceArgs,
    #[command(flatten)]
    target: Target,
}

fn parse_offset(text: &str) -> Result<i32, String> {
    #[cfg(feature = "sql")]
    return text.parse().map(|steeple_sql::ZoneOffset(seconds)| seconds);
    #[cfg(not(feature = "sql"))]
    if text == "UTC" { Ok(0) } else { Err("this program was built without SQL databases".into()) }
}

/// `steeple spire import`.
pub(in crate::cli::spire) async fn run(arguments: ImportArgs) -> Result<(), CommandError> {
    let mut origin = Origin::open(&arguments.source.from, arguments.source.time_zone).await?;
    let survey = Survey::of(&mut origin).await?;
    let output = arguments.target.output();
    if arguments.dry_run {
        return dry_run(&arguments, origin, &survey).await;
    }
    if survey.refused_total > 0 && !arguments.skip_refused {
        show_refused(&survey, output)?;
        let text = "nothing was imported. Mend them in the source, or leave them out with --skip-refused";
        return Err(CommandError::Failed(format!("{} records cannot be taken over, so {text}", survey.refused_total)));
    }
    let namespace = arguments.target.connection.admin().await?.open_namespace(&arguments.target.namespace).await?;
    let import =
        send(&mut origin, &namespace, &survey).await.map_err(|error| advise(error, &arguments.target.namespace))?;
    let comparison = match arguments.skip_verification {
        true => None,
        false => Some(Comparison::of(&mut origin, &namespace).await?),
    };
    finish(&arguments, &survey, &import, comparison.as_ref())?;
    origin.close().await;
    result(comparison.as_ref())
}

/// `steeple spire verify`.
pub(in crate::cli::spire) async fn verify(arguments: VerifyArgs) -> Result<(), CommandError> {
    let namespace = arguments.target.open().await?;
    let mut origin = Origin::open(&arguments.source.from, arguments.source.time_zone).await?;
    let comparison = Comparison::of(&mut origin, &namespace).await?;
    match arguments.target.output() {
        Output::Json => print_json(&comparison.json())?,
        Output::Table => show_comparison(&comparison)?,
    }
    origin.close().await;
    result(Some(&comparison))
}

fn result(comparison: Option<&Comparison>) -> Result<(), CommandError> {
    match comparison {
        Some(comparison) if !comparison.is_equal() => {
            Err(CommandError::Failed("source and namespace are not equal".into()))
        }
        _ => Ok(()),
    }
}

async fn dry_run(arguments: &ImportArgs, mut origin: Origin, survey: &Survey) -> Result<(), CommandError> {
    let (facts, fields) = origin.facts().await?;
    let standing = standing(&arguments.target).await;
    match arguments.target.output() {
        Output::Json => {
            let mut document = survey_json(survey, &origin.describe());
            document["dry_run"] = true.into();
            document["facts"] = facts;
            document["namespace"] = json!({ "name": arguments.target.namespace, "state": standing });
            print_json(&document)?;
        }
        Output::Table => {
            print_line(&format!("source: {}", origin.describe()))?;
            for (name, value) in fields.iter().filter(|(_, value)| !value.is_empty()) {
                print_line(&format!("{name}: {value}"))?;
            }
            show_counts(survey)?;
            show_orphans(survey)?;
            show_refused(survey, Output::Table)?;
            print_line(&format!("namespace {}: {standing}", arguments.target.namespace))?;
            print_line("nothing was imported: this was a dry run")?;
        }
    }
    origin.close().await;
    if survey.refused_total > 0 && !arguments.skip_refused {
        return Err(CommandError::Failed(format!("{} records cannot be taken over", survey.refused_total)));
    }
    Ok(())
}

/// Whether the namespace would take an import, as far as can be seen.
async fn standing(target: &Target) -> String {
    match look(target).await {
        Ok(text) => text,
        Err(CommandError::Node(Error::Unsuitable { kind: ErrorKind::NamespaceUnknown, .. })) => {
            "does not exist, and will be made".into()
        }
        Err(error) => format!("was not looked at: {error}"),
    }
}

async fn look(target: &Target) -> Result<String, CommandError> {
    let namespace = target.open().await?;
    if let Some(import) = namespace.fetch_import().await? {
        return Ok(format!(
            "holds {} of {} records of an import from {}",
            import.accepted, import.total, import.source
        ));
    }
    let (registrations, nodes) = namespace.fetch_event_bounds().await?;
    let records = namespace.count_bundles().await?;
    let used = records > 0 || registrations.last_event_id > 0 || nodes.last_event_id > 0;
    Ok(if used { "is not empty, and would refuse the import".into() } else { "is empty".into() })
}

/// Sends what the namespace does not have yet.
pub(super) async fn send(origin: &mut Origin, namespace: &Namespace, survey: &Survey) -> Result<Import, CommandError> {
    let total = survey.counts.total();
    let mut source = origin.describe();
    source.truncate(source.floor_char_boundary(SOURCE_BYTES_MAX));
    let standing = namespace.fetch_import().await?;
    if let Some(import) = &standing {
        if import.fingerprint != survey.fingerprint || import.total != total {
            return Err(other_import(import));
        }
        if import.accepted == total {
            return Ok(import.clone());
        }
    }
    let accepted = standing.as_ref().map_or(0, |import| import.accepted);
    let mut sender = Sender {
        namespace,
        skip: accepted,
        next: ImportBatch { fingerprint: survey.fingerprint, source, total, position: accepted, records: Vec::new() },
        next_bytes: 0,
        standing,
        progress: Progress::new("importing", total, accepted),
    };
    let mut judge = Judge::default();
    origin
        .read(async |found| match found {
            Found::Record(record) => match judge.judge(record) {
                Ok(record) => sender.add(imported(record)).await,
                Err(_) => Ok(()),
            },
            Found::Unreadable { .. } | Found::Orphans { .. } => Ok(()),
        })
        .await?;
    sender.finish().await
}

fn other_import(import: &Import) -> CommandError {
    CommandError::AlreadyExists(format!(
        "the namespace holds {} of {} records of an import from {}, which had other records: either it is another source, or \
         this one has changed since. Name another namespace, or delete this one with `steeple namespace delete`",
        import.accepted, import.total, import.source
    ))
}

/// How the refusal of a namespace that is not empty begins.
const NOT_EMPTY: &str = "an import needs a namespace";

/// Advice for refusals that the command line can do something about.
pub(super) fn advise(error: CommandError, namespace: &str) -> CommandError {
    match error {
        CommandError::Node(Error::Refused { code: Code::FailedPrecondition, message })
            if message.starts_with(NOT_EMPTY) =>
        {
            CommandError::AlreadyExists(format!(
                "{message}. Name another namespace with --namespace, or delete {namespace} with `steeple namespace delete` if \
                 nobody needs it"
            ))
        }
        error => error,
    }
}

/// Puts records into batches and sends them.
struct Sender<'a> {
    namespace: &'a Namespace,
    /// Records that the namespace has already.
    skip: u64,
    next: ImportBatch,
    next_bytes: usize,
    standing: Option<Import>,
    progress: Progress,
}

impl Sender<'_> {
    async fn add(&mut self, record: ImportedRecord) -> Result<(), CommandError> {
        if self.skip > 0 {
            self.skip -= 1;
            return Ok(());
        }
        let bytes = record.encoded_len();
        let full = self.next.records.len() >= BATCH_RECORDS || self.next_bytes + bytes > BATCH_BYTES;
        if full && !self.next.records.is_empty() {
            self.flush().await?;
        }
        self.next_bytes += bytes;
        self.next.records.push(record);
        Ok(())
    }

    async fn flush(&mut self) -> Result<(), CommandError> {
        let batch = self.next.clone();
        let sent = batch.records.len() as u64;
        self.standing = Some(self.namespace.import_records(batch).await?);
        self.next.position += sent;
        self.next.records.clear();
        self.next_bytes = 0;
        self.progress.add(sent);
        Ok(())
    }

    async fn finish(mut self) -> Result<Import, CommandError> {
        // An import of nothing has one batch of nothing.
        if !self.next.records.is_empty() || self.standing.is_none() {
            self.flush().await?;
        }
        match self.standing {
            Some(import) if import.accepted == import.total => Ok(import),
            _ => Err(CommandError::Failed("the source changed while it was read; run the import again".into())),
        }
    }
}

fn finish(
    arguments: &ImportArgs,
    survey: &Survey,
    import: &Import,
    comparison: Option<&Comparison>,
) -> Result<(), CommandError> {
    let namespace = &arguments.target.namespace;
    if arguments.target.output() == Output::Json {
        let mut document = survey_json(survey, &import.source);
        document["namespace"] = namespace.as_str().into();
        document["verification"] = comparison.map_or(Value::Null, Comparison::json);
        return print_json(&document);
    }
    show_counts(survey)?;
    show_orphans(survey)?;
    show_refused(survey, Output::Table)?;
    print_line(&format!("imported {} records from {} into namespace {namespace}", import.total, import.source))?;
    match comparison {
        Some(comparison) if comparison.is_equal() => {
            print_line("verified: source and namespace are equal, record by record and in the same order")?;
            print_line(WHAT_NEXT)
        }
        Some(comparison) => show_comparison(comparison),
        None => print_line(WHAT_NEXT),
    }
}

/// What to do with the old store.
const WHAT_NEXT: &str = "\
next: start the SPIRE servers on this namespace, with the data_dir and key manager that they had (CA keys are not in the
database), and look with `spire-server agent list` and `entry count` whether all is there.
The source was only read. It is a way back until agents have renewed their certificates or entries have changed on Steeple;
a server that is started on it after that refuses those agents and does not know those entries. Keep it as a backup for as
long as your rules ask, and see to it that no server is configured with it any more.";

fn survey_json(survey: &Survey, source: &str) -> Value {
    let refused: Vec<_> =
        survey.refused.iter().map(|(what, reason)| json!({ "what": what, "reason": reason })).collect();
    let orphans: serde_json::Map<_, _> =
        survey.orphans.iter().map(|(table, rows)| (table.clone(), (*rows).into())).collect();
    json!({
        "source": source,
        "records": survey.counts.total(),
        "counts": survey.counts.json(),
        "refused": survey.refused_total,
        "refusals": refused,
        "orphans": orphans,
    })
}

fn show_counts(survey: &Survey) -> Result<(), CommandError> {
    let rows =
        Kind::ALL.into_iter().map(|kind| vec![kind.plural().replace('_', " "), survey.counts.of(kind).to_string()]);
    print_line(&table(&["kind", "records"], rows))
}

fn show_orphans(survey: &Survey) -> Result<(), CommandError> {
    for (table, rows) in &survey.orphans {
        print_line(&format!("left out: {rows} rows of {table} whose owner is gone; servers do not show them either"))?;
    }
    Ok(())
}

/// Says what cannot be taken over; programs get it with the rest, and here only if nothing else comes.
fn show_refused(survey: &Survey, output: Output) -> Result<(), CommandError> {
    if survey.refused_total == 0 {
        return Ok(());
    }
    if output == Output::Json {
        return print_json(&survey_json(survey, ""));
    }
    print_line(&format!("{} records cannot be taken over:", survey.refused_total))?;
    for (what, reason) in survey.refused.iter().take(SHOWN_MAX) {
        print_line(&format!("  {what}: {reason}"))?;
    }
    let more = survey.refused_total.saturating_sub(SHOWN_MAX as u64);
    if more > 0 { print_line(&format!("  and {more} more; --output json tells up to 1,000")) } else { Ok(()) }
}

fn show_comparison(comparison: &Comparison) -> Result<(), CommandError> {
    print_line(&table(&Comparison::COLUMNS, comparison.rows()))?;
    for difference in &comparison.told {
        print_line(&format!("  {difference}"))?;
    }
    if comparison.is_equal() { print_line("source and namespace are equal") } else { Ok(()) }
}
