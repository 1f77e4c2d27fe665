//! Reading in process: point fetches, every form of list, counts, full scans. CPU time.
//!
//! Lists select [`Deployment::hits`] entries each, 50 from 5,000 entries on, so that their cost can be compared across
//! sizes of the table.

use std::hint::black_box;
use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use steeple_benches::cpu_time::ThreadCpuTime;
use steeple_benches::deployment::{Deployment, list_forms};
use steeple_benches::population::{Group, NAMESPACE};
use steeple_benches::sizes;
use steeple_engine::ids::Sequence;
use steeple_engine::record_store::RecordStoreKind;
use steeple_engine::spire::entries::queries::{self, EntryFilter, ListEntries};
use steeple_engine::spire::nodes::queries::fetch_node_record;
use steeple_engine::spire::pages::PageRequest;
use steeple_engine::spire::selectors::{Match, SelectorFilter};
use steeple_engine::spire::tables;
use steeple_engine::view::{Reader as _, View};

/// Entries on a page of a full scan.
const SCAN_PAGE: i32 = 1000;

/// Entries on the first page of a list that goes on.
const PAGE: i32 = 50;

/// Entries on the page of a list of few.
const FEW: i32 = 10;

/// Entries of a piece of a long list; as many as a node reads at once.
const PIECE: usize = 4096;

/// Filters prepared for each form, taken in turn, so that no figure is about one key that is always in the cache.
const VARIANTS: u64 = 64;

fn query(criterion: &mut Criterion<ThreadCpuTime>) {
    for entries in sizes() {
        let deployment = Deployment::new(1, entries);
        let group = Group::filled(RecordStoreKind::Sled, &deployment);
        fetch(criterion, &deployment, group.view());
        list(criterion, &deployment, group.view());
        hits(criterion, &deployment, group.view());
        first_page(criterion, &deployment, group.view());
        count(criterion, &deployment, group.view());
        scan(criterion, &deployment, group.view());
    }
}

fn fetch(criterion: &mut Criterion<ThreadCpuTime>, deployment: &Deployment, view: &View) {
    let entries = deployment.entries();
    let mut bench = criterion.benchmark_group("fetch");
    let ids: Vec<String> = (0..4096).map(|turn| deployment.entry(deployment.shuffled(turn)).entry_id).collect();
    let mut turn = ids.iter().cycle();
    bench.bench_function(format!("entry_record/{entries}"), |bencher| {
        bencher.iter(|| {
            let id = turn.next().expect("a cycle");
            queries::fetch_entry_record(&view.read(), NAMESPACE, id).expect("a read").expect("an entry")
        });
    });
    bench.bench_function(format!("entry_decoded/{entries}"), |bencher| {
        bencher.iter(|| {
            let id = turn.next().expect("a cycle");
            queries::fetch_entry(&view.read(), NAMESPACE, id).expect("a read").expect("an entry")
        });
    });
    let agents: Vec<String> =
        (0..4096).map(|turn| deployment.agent_id(deployment.shuffled(turn) % deployment.agents())).collect();
    let mut turn = agents.iter().cycle();
    bench.bench_function(format!("node_record/{entries}"), |bencher| {
        bencher.iter(|| {
            let id = turn.next().expect("a cycle");
            fetch_node_record(&view.read(), NAMESPACE, id).expect("a read").expect("a node")
        });
    });
    bench.finish();
}

fn list(criterion: &mut Criterion<ThreadCpuTime>, deployment: &Deployment, view: &View) {
    let entries = deployment.entries();
    let variants: Vec<_> =
        (0..VARIANTS).map(|turn| list_forms(deployment, deployment.shuffled(turn) % deployment.agents())).collect();
    for (form, (name, _)) in variants[0].iter().enumerate() {
        let requests: Vec<ListEntries> =
            variants.iter().map(|forms| ListEntries { filter: forms[form].1.clone(), page: None }).collect();
        let mut bench = criterion.benchmark_group("select");
        let selections: Vec<_> = requests.iter().map(|request| request.filter.query()).collect();
        let mut turn = selections.iter().cycle();
        bench.bench_function(format!("{name}/{entries}"), |bencher| {
            bencher.iter(|| {
                let query = turn.next().expect("a cycle");
                let selected = view.read().select(NAMESPACE, tables::ENTRIES, query, Sequence::ZERO, usize::MAX);
                assert_eq!(selected.len() as u64, deployment.hits());
                selected
            });
        });
        bench.finish();
        let mut bench = criterion.benchmark_group("list");
        let mut turn = requests.iter().cycle();
        bench.bench_function(format!("{name}/{entries}"), |bencher| {
            bencher.iter(|| {
                let request = turn.next().expect("a cycle");
                queries::list_entry_records(&view.read(), NAMESPACE, request).expect("a list")
            });
        });
        if *name == "parent" {
            bench.bench_function(format!("parent_decoded/{entries}"), |bencher| {
                bencher.iter(|| {
                    let request = turn.next().expect("a cycle");
                    queries::list_entries(&view.read(), NAMESPACE, request).expect("a list")
                });
            });
        }
        bench.finish();
    }
}

/// Lists that differ only in how many entries they select, as one answer and in the pieces that a node sends: what
/// one more entry costs. Those of several services lie scattered over the table as those of one do.
fn hits(criterion: &mut Criterion<ThreadCpuTime>, deployment: &Deployment, view: &View) {
    let entries = deployment.entries();
    let mut bench = criterion.benchmark_group("hits");
    for services in [1, 10, 100] {
        let requests: Vec<ListEntries> =
            (0..VARIANTS).map(|turn| list_of_services(deployment, deployment.shuffled(turn), services)).collect();
        let hits = services * deployment.hits();
        bench.throughput(Throughput::Elements(hits));
        let mut turn = requests.iter().cycle();
        bench.bench_function(format!("select_{hits}/{entries}"), |bencher| {
            bencher.iter(|| {
                let query = turn.next().expect("a cycle").filter.query();
                view.read().select(NAMESPACE, tables::ENTRIES, &query, Sequence::ZERO, usize::MAX)
            });
        });
        let mut turn = requests.iter().cycle();
        bench.bench_function(format!("list_{hits}/{entries}"), |bencher| {
            bencher.iter(|| {
                let request = turn.next().expect("a cycle");
                let list = queries::list_entry_records(&view.read(), NAMESPACE, request).expect("a list");
                assert_eq!(list.items.len() as u64, hits);
                list
            });
        });
        let mut turn = requests.iter().cycle();
        bench.bench_function(format!("decoded_{hits}/{entries}"), |bencher| {
            bencher.iter(|| {
                let request = turn.next().expect("a cycle");
                queries::list_entries(&view.read(), NAMESPACE, request).expect("a list")
            });
        });
    }
    let requests: Vec<ListEntries> = (0..VARIANTS)
        .map(|turn| ListEntries {
            page: Some(PageRequest { token: String::new(), page_size: FEW }),
            ..list_of_services(deployment, deployment.shuffled(turn), 1)
        })
        .collect();
    bench.throughput(Throughput::Elements(FEW.unsigned_abs().into()));
    let mut turn = requests.iter().cycle();
    bench.bench_function(format!("list_{FEW}/{entries}"), |bencher| {
        bencher.iter(|| {
            let request = turn.next().expect("a cycle");
            queries::list_entry_records(&view.read(), NAMESPACE, request).expect("a list")
        });
    });
    bench.finish();
}

/// The entries of so many services, each by the selector that is its own.
fn list_of_services(deployment: &Deployment, first: u64, services: u64) -> ListEntries {
    let selectors = (0..services)
        .map(|place| {
            let service = (first + place * deployment.agents() / services) % deployment.agents();
            deployment.selectors(service).swap_remove(1)
        })
        .collect();
    let filter =
        EntryFilter { selectors: Some(SelectorFilter { matching: Match::Any, selectors }), ..Default::default() };
    ListEntries { filter, page: None }
}

/// Lists of which the first page is asked for and more follow.
fn first_page(criterion: &mut Criterion<ThreadCpuTime>, deployment: &Deployment, view: &View) {
    let entries = deployment.entries();
    let own = deployment.selectors(deployment.agents() / 2);
    let broad = |matching, places: &[usize]| EntryFilter {
        selectors: Some(SelectorFilter {
            matching,
            selectors: places.iter().map(|place| own[*place].clone()).collect(),
        }),
        ..EntryFilter::default()
    };
    let filters = [
        ("not_downstream", EntryFilter { downstream: Some(false), ..EntryFilter::default() }),
        ("selectors_any_broad", broad(Match::Any, &[0, 2])),
        ("selectors_superset_broad", broad(Match::Superset, &[0, 2])),
    ];
    let mut bench = criterion.benchmark_group("first_page");
    for (name, filter) in filters {
        for (place, token) in [("start", String::new()), ("middle", (entries / 2).to_string())] {
            let page = Some(PageRequest { token, page_size: PAGE });
            let request = ListEntries { filter: filter.clone(), page };
            bench.bench_function(format!("{name}/{place}/{entries}"), |bencher| {
                bencher.iter(|| queries::list_entry_records(&view.read(), NAMESPACE, &request).expect("a page"));
            });
        }
    }
    bench.finish();
}

fn count(criterion: &mut Criterion<ThreadCpuTime>, deployment: &Deployment, view: &View) {
    let entries = deployment.entries();
    let mut bench = criterion.benchmark_group("count");
    let forms = list_forms(deployment, deployment.agents() / 2);
    for (name, filter) in forms.into_iter().chain([("all", EntryFilter::default())]) {
        bench.bench_function(format!("{name}/{entries}"), |bencher| {
            bencher.iter(|| queries::count_entries(&view.read(), NAMESPACE, &filter).expect("a count"));
        });
    }
    bench.finish();
}

fn scan(criterion: &mut Criterion<ThreadCpuTime>, deployment: &Deployment, view: &View) {
    let entries = deployment.entries();
    let mut bench = criterion.benchmark_group("scan");
    bench.sample_size(10).measurement_time(Duration::from_secs(2)).throughput(Throughput::Elements(entries));
    bench.bench_function(format!("pages_of_{SCAN_PAGE}/{entries}"), |bencher| {
        bencher.iter(|| {
            let (mut seen, mut token) = (0, String::new());
            loop {
                let page = Some(PageRequest { token, page_size: SCAN_PAGE });
                let request = ListEntries { filter: EntryFilter::default(), page };
                let page = queries::list_entry_records(&view.read(), NAMESPACE, &request).expect("a page");
                seen += black_box(page.items).len() as u64;
                token = page.response.map(|response| response.token).unwrap_or_default();
                if token.is_empty() {
                    assert_eq!(seen, entries);
                    break;
                }
            }
        });
    });
    bench.bench_function(format!("pieces_of_{PIECE}/{entries}"), |bencher| {
        bencher.iter(|| {
            let (mut seen, mut next) = (0, Some(Sequence::ZERO));
            while let Some(after) = next {
                let filter = EntryFilter::default();
                let piece =
                    queries::list_entries_chunk(&view.read(), NAMESPACE, &filter, after, PIECE).expect("a piece");
                seen += black_box(piece.items).len() as u64;
                next = piece.next;
            }
            assert_eq!(seen, entries);
        });
    });
    bench.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default().with_measurement(ThreadCpuTime).sample_size(20)
        .warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(1));
    targets = query
}
criterion_main!(benches);
