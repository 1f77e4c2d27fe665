//! A fault that is planted, to show that the checker bites.

use std::time::{Duration, Instant};

use crate::cluster::Cluster;
use crate::door::{Attempt, Freshness};
use crate::history::{Answer, Call, Recorder};
use crate::register::is_linearizable;
use crate::settings::PATIENCE;
use crate::settings::run;

const ATTEMPT_MAX: Duration = Duration::from_secs(2);

/// Mutates through whichever of the nodes accepts it.
async fn mutate(cluster: &Cluster, nodes: &[u64], recorder: &Recorder, key: &str, call: Call) {
    let (begun, request) = (recorder.begin(key, call), rand::random());
    let deadline = Instant::now() + PATIENCE;
    loop {
        for node in nodes {
            if let Attempt::Answered { answer, .. } =
                cluster.node(*node).door.mutate(key, call, request, ATTEMPT_MAX).await
            {
                return begun.answered(answer);
            }
            assert!(Instant::now() < deadline, "nothing is accepted\n{}", cluster.last_messages());
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// A leader that does not know yet that it was deposed is read without its confirming that it leads: that is what a read
/// that tolerates old answers is. Recorded as if it had promised a current one, it must not pass; a read that did promise must not be
/// answered by that node at all.
#[test]
fn a_read_without_confirmed_leadership_is_caught() {
    run(async {
        let cluster = Cluster::start(3).await;
        let deposed = cluster.leader().await;
        let others: Vec<u64> = cluster.numbers().into_iter().filter(|number| *number != deposed).collect();
        let (sound, planted) = (Recorder::default(), Recorder::default());
        for recorder in [&sound, &planted] {
            let key = if std::ptr::eq(recorder, &sound) { "sound" } else { "planted" };
            mutate(&cluster, &cluster.numbers(), recorder, key, Call::Create(1)).await;
        }
        // Everybody has it before the leader is cut off.
        let begun = planted.begin("planted", Call::Read);
        let before = cluster.node(deposed).door.read("planted", Freshness::Current, PATIENCE).await;
        let Attempt::Answered { answer: before, .. } = before else { panic!("no answer at peace: {before:?}") };
        begun.answered(before);
        cluster.isolate(deposed);
        for (recorder, key) in [(&sound, "sound"), (&planted, "planted")] {
            mutate(&cluster, &others, recorder, key, Call::Update(2)).await;
        }

        let begun = planted.begin("planted", Call::Read);
        let read = cluster.node(deposed).door.read("planted", Freshness::Stale(0), PATIENCE).await;
        let Attempt::Answered { answer, .. } = read else { panic!("a read that tolerates old answers: {read:?}") };
        assert!(matches!(answer, Answer::Found(Some(held)) if held.revision == 0), "it is deposed: {answer:?}");
        begun.answered(answer);
        assert!(!is_linearizable(&planted.keys()["planted"]), "the planted fault passes: {:?}", planted.keys());

        let begun = sound.begin("sound", Call::Read);
        if let Attempt::Answered { answer, .. } =
            cluster.node(deposed).door.read("sound", Freshness::Current, ATTEMPT_MAX).await
        {
            begun.answered(answer);
        }
        assert!(is_linearizable(&sound.keys()["sound"]), "a current read of a deposed leader: {:?}", sound.keys());
        cluster.network.heal();
        let begun = sound.begin("sound", Call::Read);
        let healed = cluster.node(deposed).door.read("sound", Freshness::Current, PATIENCE).await;
        let Attempt::Answered { answer, .. } = healed else { panic!("no answer after healing: {healed:?}") };
        begun.answered(answer);
        assert!(is_linearizable(&sound.keys()["sound"]), "{:?}", sound.keys());
    });
}
