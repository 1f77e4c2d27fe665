//! What the machine does without us: the limits that the figures of everything else are to be held against.
//!
//! Work on one thread in its CPU time; what waits for the disk or for another thread in wall time.

use std::hint::black_box;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use steeple_benches::bare_file::{BARE_FILE_BYTES, BareFile};
use steeple_benches::cpu_time::ThreadCpuTime;
use steeple_benches::scratch_directory;
use steeple_engine::record_store::{RecordStoreKind, RecordStoreOptions, WriteBatch, open};

/// An event of an entry, and a batch of many.
const SIZES: [usize; 3] = [600, 64 << 10, 1 << 20];

/// A request and its answer, small ones and those that carry an entry.
const MESSAGES: [usize; 2] = [64, 600];

/// Records that are folded at once.
const RECORDS: [u64; 2] = [1, 100];

fn memory(criterion: &mut Criterion<ThreadCpuTime>) {
    let mut group = criterion.benchmark_group("limits");
    for bytes in SIZES {
        let (source, mut target) = (vec![7_u8; bytes], vec![0_u8; bytes]);
        group.throughput(Throughput::Bytes(bytes as u64));
        group.bench_function(format!("copy/{bytes}"), |bencher| {
            bencher.iter(|| black_box(&mut target).copy_from_slice(black_box(&source)));
        });
        group.bench_function(format!("crc32/{bytes}"), |bencher| {
            bencher.iter(|| crc32fast::hash(black_box(&source)));
        });
    }
    group.finish();
}

fn disk(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("limits");
    let directory = scratch_directory();
    let mut file = BareFile::create(directory.path()).expect("a file");
    for bytes in SIZES {
        // Where writes of another size stopped no page begins, and a write would take in parts of two more.
        file.rewind();
        let content = vec![7; bytes];
        group.throughput(Throughput::Bytes(bytes as u64));
        group.bench_function(format!("overwrite_and_sync/{bytes}"), |bencher| {
            bencher.iter(|| file.write_durably(&content).expect("a write"));
        });
    }
    file.rewind();
    let piece = vec![7; 1 << 20];
    group.throughput(Throughput::Bytes(BARE_FILE_BYTES));
    group.bench_function(format!("sequential_write/{BARE_FILE_BYTES}"), |bencher| {
        bencher.iter(|| {
            (0..BARE_FILE_BYTES / piece.len() as u64).for_each(|_| file.write(&piece).expect("a write"));
            file.sync().expect("a sync");
        });
    });
    group.finish();
}

/// A connection to a thread of this process that sends back what it gets, until the connection is closed.
fn echo(bytes: usize) -> TcpStream {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let address = listener.local_addr().expect("its address");
    std::thread::spawn(move || {
        let (mut connection, _) = listener.accept().expect("a connection");
        connection.set_nodelay(true).expect("no delay");
        let mut message = vec![0; bytes];
        while connection.read_exact(&mut message).is_ok() {
            connection.write_all(&message).expect("an answer");
        }
    });
    let connection = TcpStream::connect(address).expect("a connection");
    connection.set_nodelay(true).expect("no delay");
    connection
}

fn loopback(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("limits");
    for bytes in MESSAGES {
        let (mut connection, mut message) = (echo(bytes), vec![7; bytes]);
        group.throughput(Throughput::Elements(1));
        group.bench_function(format!("loopback_round_trip/{bytes}"), |bencher| {
            bencher.iter(|| {
                connection.write_all(&message).expect("a request");
                connection.read_exact(&mut message).expect("an answer");
            });
        });
    }
    group.finish();
}

fn record_store(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("limits");
    let directory = scratch_directory();
    let store = open(RecordStoreKind::Sled, directory.path(), &RecordStoreOptions::default()).expect("a store");
    let (value, mut next) = (vec![7; 600], 0_u64);
    for records in RECORDS {
        group.throughput(Throughput::Elements(records));
        group.bench_function(format!("sled_batch/{records}"), |bencher| {
            bencher.iter(|| {
                let mut batch = WriteBatch::default();
                (next..next + records).for_each(|number| batch.put(number.to_be_bytes(), value.clone()));
                next += records;
                store.apply(batch).expect("a batch");
            });
        });
    }
    group.finish();
}

criterion_group! {
    name = cpu;
    config = Criterion::default().with_measurement(ThreadCpuTime);
    targets = memory
}
criterion_group! {
    name = waiting;
    config = Criterion::default().sample_size(20).measurement_time(Duration::from_secs(3));
    targets = disk, loopback, record_store
}
criterion_main!(cpu, waiting);
