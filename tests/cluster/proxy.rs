//! The network between the nodes: one listener stands before each node, tells by whom it is called, and lets each direction
//! between each two nodes through, or not, or late.
//!
//! All nodes know a node by the same address, as they must: addresses are part of what they agree on. So a listener finds out
//! which process called it from what the kernel tells about the caller's socket.
//!
//! A direction that is cut loses nothing that was sent on a connection, which no network does either as long as both ends keep
//! the connection: it arrives when the cut heals, or never.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::AbortHandle;

/// Bytes that travel at a time.
const PIECE_BYTES: usize = 64 << 10;

/// What a direction does with what is sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Way {
    /// Nothing gets through.
    cut: bool,
    /// Everything arrives later by this much.
    delay: Duration,
}

/// Who is at the other end of a connection that came in; `None` for processes that are no nodes.
pub(crate) type Callers = Arc<dyn Fn(SocketAddr) -> Option<u64> + Send + Sync>;

/// Listeners before all nodes, and the state of every direction between two.
#[derive(Clone)]
pub(crate) struct Network {
    shared: Arc<Shared>,
}

struct Shared {
    callers: Callers,
    ways: Mutex<BTreeMap<(u64, u64), watch::Sender<Way>>>,
    tasks: Mutex<Vec<AbortHandle>>,
    connections: Mutex<Vec<(u64, u64, AbortHandle)>>,
}

impl Network {
    /// A network in which everything gets through.
    pub(crate) fn new(callers: Callers) -> Self {
        let shared = Shared { callers, ways: Mutex::default(), tasks: Mutex::default(), connections: Mutex::default() };
        Self { shared: Arc::new(shared) }
    }

    /// Listens before a node; returns the address by which the others know it.
    pub(crate) async fn stand_before(&self, node: u64, address: SocketAddr) -> SocketAddr {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a free port");
        let listening = listener.local_addr().expect("an address");
        let network = self.clone();
        let task = tokio::spawn(async move {
            while let Ok((incoming, from)) = listener.accept().await {
                // What belongs to no node comes from a node that has just ended, and is not let in.
                if let Some(caller) = (network.shared.callers)(from) {
                    network.connect(incoming, caller, node, address);
                }
            }
        });
        self.shared.tasks.lock().expect("no panic").push(task.abort_handle());
        listening
    }

    fn connect(&self, incoming: TcpStream, caller: u64, node: u64, address: SocketAddr) {
        let there = self.watch(caller, node);
        let back = self.watch(node, caller);
        let task = tokio::spawn(async move {
            // A connection cannot be made across a cut, in whichever direction.
            passable(&mut there.clone()).await;
            passable(&mut back.clone()).await;
            let Ok(outgoing) = TcpStream::connect(address).await else { return };
            drop((incoming.set_nodelay(true), outgoing.set_nodelay(true)));
            let (incoming_read, incoming_write) = incoming.into_split();
            let (outgoing_read, outgoing_write) = outgoing.into_split();
            // When one direction ends the other is of no use: both ends learn it.
            tokio::select! {
                _ = carry(incoming_read, outgoing_write, there) => {}
                _ = carry(outgoing_read, incoming_write, back) => {}
            }
        });
        let mut connections = self.shared.connections.lock().expect("no panic");
        connections.retain(|(_, _, task)| !task.is_finished());
        connections.push((caller, node, task.abort_handle()));
    }

    fn watch(&self, from: u64, to: u64) -> watch::Receiver<Way> {
        let mut ways = self.shared.ways.lock().expect("no panic");
        ways.entry((from, to)).or_insert_with(|| watch::channel(Way::default()).0).subscribe()
    }

    fn set(&self, from: u64, to: u64, change: impl FnOnce(&mut Way)) {
        drop(self.watch(from, to));
        let ways = self.shared.ways.lock().expect("no panic");
        ways[&(from, to)].send_modify(change);
    }

    /// Lets nothing through from one node to another; the other direction stays as it is.
    pub(crate) fn cut(&self, from: u64, to: u64) {
        self.set(from, to, |way| way.cut = true);
    }

    /// Lets everything through from one node to another again.
    pub(crate) fn mend(&self, from: u64, to: u64) {
        self.set(from, to, |way| way.cut = false);
    }

    /// Lets everything from one node to another arrive late.
    pub(crate) fn delay(&self, from: u64, to: u64, delay: Duration) {
        self.set(from, to, |way| way.delay = delay);
    }

    /// Lets everything through again, at once.
    pub(crate) fn heal(&self) {
        for way in self.shared.ways.lock().expect("no panic").values() {
            way.send_replace(Way::default());
        }
    }

    /// Breaks all connections between two nodes, whoever made them.
    pub(crate) fn reset(&self, one: u64, other: u64) {
        for (caller, node, task) in self.shared.connections.lock().expect("no panic").iter() {
            if (*caller, *node) == (one, other) || (*caller, *node) == (other, one) {
                task.abort();
            }
        }
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        for task in self.tasks.get_mut().expect("no panic") {
            task.abort();
        }
        for (_, _, task) in self.connections.get_mut().expect("no panic") {
            task.abort();
        }
    }
}

async fn passable(way: &mut watch::Receiver<Way>) {
    // The sender lives as long as the network, and its end ends this task too.
    drop(way.wait_for(|way| !way.cut).await);
}

async fn carry(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut way: watch::Receiver<Way>) -> io::Result<()> {
    let mut piece = vec![0; PIECE_BYTES];
    loop {
        let read = from.read(&mut piece).await?;
        if read == 0 {
            return to.shutdown().await;
        }
        let delay = way.borrow_and_update().delay;
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
        passable(&mut way).await;
        to.write_all(&piece[..read]).await?;
    }
}

/// Which of these processes holds the socket with this local address. Of connections on this machine only.
pub(crate) fn process_of(address: SocketAddr, processes: &[(u64, u32)]) -> Option<u64> {
    let inode = inode_of(address)?;
    let target = format!("socket:[{inode}]");
    let holds = |process: u32| {
        let Ok(descriptors) = fs::read_dir(Path::new("/proc").join(process.to_string()).join("fd")) else {
            return false;
        };
        descriptors.flatten().any(|entry| fs::read_link(entry.path()).is_ok_and(|link| link == Path::new(&target)))
    };
    processes.iter().find(|(_, process)| holds(*process)).map(|(node, _)| *node)
}

/// The kernel's number of the socket with this local address.
fn inode_of(address: SocketAddr) -> Option<u64> {
    let SocketAddr::V4(address) = address else { return None };
    // The address as the kernel prints it: the bytes of the IP address as one number of this machine, then the port.
    let local = format!("{:08X}:{:04X}", u32::from_ne_bytes(address.ip().octets()), address.port());
    let table = fs::read_to_string("/proc/net/tcp").ok()?;
    let mut rows = table.lines().skip(1).map(|row| row.split_ascii_whitespace().collect::<Vec<_>>());
    let row = rows.find(|row| row.get(1).is_some_and(|text| *text == local))?;
    row.get(9)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    /// Shorter than anything that waits here, longer than anything that does not.
    const MOMENT: Duration = Duration::from_millis(100);
    const PATIENCE: Duration = Duration::from_secs(10);

    /// A network in which node 1 has called node 2, and both ends of the connection.
    struct Pair {
        network: Network,
        one: TcpStream,
        two: TcpStream,
    }

    async fn pair() -> Pair {
        let network = Network::new(Arc::new(|_| Some(1)));
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = network.stand_before(2, listener.local_addr().unwrap()).await;
        let one = TcpStream::connect(address).await.unwrap();
        let (two, _) = listener.accept().await.unwrap();
        Pair { network, one, two }
    }

    async fn arrives(from: &mut TcpStream, to: &mut TcpStream, within: Duration) -> bool {
        from.write_all(b"x").await.unwrap();
        arrived(to, within).await
    }

    async fn arrived(to: &mut TcpStream, within: Duration) -> bool {
        let mut byte = [0];
        match tokio::time::timeout(within, to.read_exact(&mut byte)).await {
            Ok(read) => {
                read.unwrap();
                true
            }
            Err(_) => false,
        }
    }

    #[tokio::test]
    async fn each_direction_is_cut_and_healed_by_itself() {
        let Pair { network, mut one, mut two } = pair().await;
        assert!(arrives(&mut one, &mut two, PATIENCE).await);
        assert!(arrives(&mut two, &mut one, PATIENCE).await);
        network.cut(1, 2);
        assert!(!arrives(&mut one, &mut two, MOMENT).await, "a cut direction");
        assert!(arrives(&mut two, &mut one, PATIENCE).await, "the other direction");
        network.heal();
        assert!(arrived(&mut two, PATIENCE).await, "what was held back arrives");
    }

    #[tokio::test]
    async fn no_connection_is_made_across_a_cut() {
        let network = Network::new(Arc::new(|_| Some(1)));
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = network.stand_before(2, listener.local_addr().unwrap()).await;
        network.cut(2, 1);
        let _one = TcpStream::connect(address).await.unwrap();
        assert!(tokio::time::timeout(MOMENT, listener.accept()).await.is_err(), "nobody calls");
        network.heal();
        tokio::time::timeout(PATIENCE, listener.accept()).await.expect("the call comes through").unwrap();
    }

    #[tokio::test]
    async fn a_delay_delays() {
        let Pair { network, mut one, mut two } = pair().await;
        network.delay(1, 2, MOMENT * 2);
        let began = Instant::now();
        assert!(arrives(&mut one, &mut two, PATIENCE).await);
        assert!(began.elapsed() >= MOMENT * 2, "{:?}", began.elapsed());
    }

    #[tokio::test]
    async fn a_reset_ends_both_ends() {
        let Pair { network, mut one, mut two } = pair().await;
        network.reset(2, 1);
        let mut byte = [0];
        let ended = async { (one.read(&mut byte).await, two.read(&mut byte.clone()).await) };
        let (first, second) = tokio::time::timeout(PATIENCE, ended).await.expect("an end");
        assert!(!matches!(first, Ok(1)) && !matches!(second, Ok(1)));
    }

    #[tokio::test]
    async fn the_end_of_one_end_is_seen_at_the_other() {
        let Pair { network: _network, one, mut two } = pair().await;
        drop(one);
        let read = tokio::time::timeout(PATIENCE, two.read(&mut [0])).await.expect("an end");
        assert!(!matches!(read, Ok(1)));
    }

    #[tokio::test]
    async fn a_caller_is_known_by_its_process() {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let _call = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (_incoming, from) = listener.accept().await.unwrap();
        let this = std::process::id();
        assert_eq!(process_of(from, &[(7, 1), (8, this)]), Some(8));
        assert_eq!(process_of(from, &[(7, 1)]), None, "a process that is no node");
        assert_eq!(process_of(listener.local_addr().unwrap(), &[(8, this)]), Some(8));
    }
}
