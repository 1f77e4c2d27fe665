use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use steeple_client::types::{AttestedNode, Bundle, RegistrationEntry};
use steeple_tests::check::not_found;
use steeple_tests::records::{MICROS, NOW, bundle, entry, entry_event_ids, key, letters, node, node_event_ids};
use steeple_tests::server::{namespace, run};
use tokio::task::JoinSet;

const WORKERS: usize = 16;
const ROUNDS: usize = 25;

/// Numbers are consecutive and never appear out of order, whoever looks and whenever; also when callers give up midway.
#[test]
fn event_ids_have_no_gaps() {
    run(async {
        let datastore = namespace().await;
        let mut writers = JoinSet::new();
        for worker in 0..WORKERS {
            let datastore = datastore.clone();
            writers.spawn(async move {
                for round in 0..ROUNDS {
                    let entry = entry("p", &format!("w{worker}-{round}"), letters("A"));
                    let create = datastore.create_registration_entry(entry);
                    if (worker + round) % 3 == 0 {
                        give_up_after(create, round).await;
                    } else {
                        create.await.unwrap();
                    }
                    // A write that fails takes no number.
                    not_found(datastore.delete_registration_entry("absent").await);
                }
            });
        }
        let done = Arc::new(AtomicBool::new(false));
        let mut readers = JoinSet::new();
        for _ in 0..3 {
            let (datastore, done) = (datastore.clone(), Arc::clone(&done));
            readers.spawn(async move {
                let mut last = 0;
                loop {
                    let finished = done.load(Ordering::Acquire);
                    for event in datastore.list_registration_entry_events(last, 0).await.unwrap() {
                        assert_eq!(event.event_id, last + 1, "a gap, or a late number");
                        last = event.event_id;
                    }
                    if finished {
                        return last;
                    }
                }
            });
        }
        while let Some(writer) = writers.join_next().await {
            writer.unwrap();
        }
        done.store(true, Ordering::Release);
        let completed = (0..WORKERS).flat_map(|worker| (0..ROUNDS).map(move |round| worker + round));
        let completed = completed.filter(|sum| sum % 3 != 0).count();
        for seen in readers.join_all().await {
            assert!((completed..=WORKERS * ROUNDS).contains(&(seen as usize)), "{seen} of {completed}");
        }
        // In commit order, which is the order of creation. What was given up may still be carried out after a look.
        let entries = datastore.list_registration_entries(Default::default()).await.unwrap();
        let events = datastore.list_registration_entry_events(0, 0).await.unwrap();
        let ids: Vec<_> = entries.iter().map(|entry| entry.entry_id.as_str()).collect();
        let announced: Vec<_> = events.iter().map(|event| event.entry_id.as_str()).collect();
        assert_eq!(announced[..ids.len()], ids);
    });
}

/// Polls a future a few times and drops it.
async fn give_up_after<F: Future>(future: F, polls: usize) {
    let mut future = std::pin::pin!(future);
    for _ in 0..=polls {
        tokio::select! {
            biased;
            _ = &mut future => return,
            () = tokio::task::yield_now() => {}
        }
    }
}

/// Certificates and keys that several servers append at once have all to be there afterwards.
#[test]
fn concurrent_appends_lose_nothing() {
    run(async {
        let datastore = namespace().await;
        datastore.create_bundle(bundle("spiffe://td", &[])).await.unwrap();
        let mut workers = JoinSet::new();
        for worker in 0..WORKERS {
            let datastore = datastore.clone();
            workers.spawn(async move {
                for round in 0..ROUNDS {
                    let name = format!("{worker}-{round}");
                    let given = Bundle {
                        jwt_signing_keys: vec![key(&name, 0)],
                        wit_signing_keys: vec![key(&name, 0)],
                        ..bundle("spiffe://td", &[])
                    };
                    let answer = datastore.append_bundle(given).await.unwrap();
                    assert!(answer.jwt_signing_keys.contains(&key(&name, 0)));
                }
            });
        }
        workers.join_all().await;
        let stored = datastore.fetch_bundle("spiffe://td").await.unwrap().unwrap();
        assert_eq!(stored.sequence_number as usize, WORKERS * ROUNDS);
        let mut kids: Vec<_> = stored.jwt_signing_keys.iter().map(|key| key.kid.clone()).collect();
        kids.sort();
        kids.dedup();
        assert_eq!((kids.len(), stored.wit_signing_keys.len()), (WORKERS * ROUNDS, WORKERS * ROUNDS));
    });
}

/// Each of several kinds of read-modify-write keeps what the others did.
#[test]
fn appends_taints_and_updates_keep_what_the_others_did() {
    run(async {
        let datastore = namespace().await;
        let keys = (0..ROUNDS).map(|number| key(&format!("k{number}"), 0)).collect();
        let stored = Bundle { jwt_signing_keys: keys, ..bundle("spiffe://td", &[]) };
        datastore.create_bundle(stored).await.unwrap();
        let mut workers = JoinSet::new();
        for round in 0..ROUNDS {
            let tainting = datastore.clone();
            workers.spawn(async move {
                let kid = format!("k{round}");
                tainting.taint_jwt_key("spiffe://td", kid.as_str()).await.unwrap();
                if round % 2 == 0 {
                    tainting.revoke_jwt_key("spiffe://td", kid).await.unwrap();
                }
            });
            let appending = datastore.clone();
            workers.spawn(async move {
                let byte = u8::try_from(round).unwrap();
                appending.append_bundle(bundle("spiffe://td", &[byte])).await.unwrap();
            });
            let updating = datastore.clone();
            workers.spawn(async move {
                let mask = steeple_client::types::BundleMask { refresh_hint: true, ..Default::default() };
                let update = Bundle { refresh_hint: 5, ..bundle("spiffe://td", &[]) };
                updating.update_bundle(update, Some(mask)).await.unwrap();
            });
        }
        workers.join_all().await;
        let stored = datastore.fetch_bundle("spiffe://td").await.unwrap().unwrap();
        assert_eq!((stored.root_cas.len(), stored.refresh_hint), (ROUNDS, 5));
        assert_eq!(stored.jwt_signing_keys.len(), ROUNDS / 2);
        assert!(stored.jwt_signing_keys.iter().all(|key| key.tainted_key));
        // Every append, taint and revocation counted.
        assert_eq!(stored.sequence_number as usize, ROUNDS + ROUNDS + ROUNDS.div_ceil(2));
    });
}

#[test]
fn concurrent_updates_of_one_entry_all_count() {
    run(async {
        let datastore = namespace().await;
        let created = datastore.create_registration_entry(entry("p", "w", letters("A"))).await.unwrap();
        let mut workers = JoinSet::new();
        for worker in 0..WORKERS {
            let (datastore, created) = (datastore.clone(), created.clone());
            workers.spawn(async move {
                for _ in 0..ROUNDS {
                    let update = RegistrationEntry { hint: format!("{worker}"), ..created.clone() };
                    datastore.update_registration_entry(update, None).await.unwrap();
                }
            });
        }
        workers.join_all().await;
        let stored = datastore.fetch_registration_entry(created.entry_id).await.unwrap().unwrap();
        assert_eq!(stored.revision_number as usize, WORKERS * ROUNDS);
        assert_eq!(entry_event_ids(&datastore).await.len(), WORKERS * ROUNDS + 1);
    });
}

/// The similar-entry check has no race.
#[test]
fn similar_entries_are_created_once() {
    run(async {
        let datastore = namespace().await;
        let mut workers = JoinSet::new();
        for _ in 0..WORKERS {
            let datastore = datastore.clone();
            workers.spawn(async move {
                let mut created = 0;
                for round in 0..ROUNDS {
                    let entry = entry("p", &format!("w{round}"), letters("AB"));
                    created +=
                        usize::from(!datastore.create_or_return_registration_entry(entry).await.unwrap().existing);
                }
                created
            });
        }
        assert_eq!(workers.join_all().await.into_iter().sum::<usize>(), ROUNDS);
        assert_eq!(entry_event_ids(&datastore).await.len(), ROUNDS);
    });
}

/// The security of attestation rests on it.
#[test]
fn a_join_token_is_deleted_exactly_once() {
    run(async {
        let datastore = namespace().await;
        for round in 0..ROUNDS {
            let token = format!("token{round}");
            datastore.create_join_token(token.as_str(), NOW).await.unwrap();
            let mut workers = JoinSet::new();
            for _ in 0..WORKERS {
                let (datastore, token) = (datastore.clone(), token.clone());
                workers.spawn(async move { datastore.delete_join_token(token).await });
            }
            let (done, refused): (Vec<_>, Vec<_>) = workers.join_all().await.into_iter().partition(Result::is_ok);
            assert_eq!(done.len(), 1);
            refused.into_iter().for_each(not_found);
        }
    });
}

/// Quirk 26: what another server has pruned already is no failure.
#[test]
fn concurrent_prunes_do_no_harm() {
    run(async {
        let datastore = namespace().await;
        for number in 0..60 {
            let node = AttestedNode { can_reattest: true, ..node(&format!("n{number}"), NOW - 1) };
            datastore.create_attested_node(node).await.unwrap();
            let entry = RegistrationEntry { entry_expiry: NOW - 1, ..entry("p", &format!("w{number}"), letters("A")) };
            datastore.create_registration_entry(entry).await.unwrap();
            datastore.create_join_token(format!("t{number}"), NOW - 1).await.unwrap();
        }
        let mut workers = JoinSet::new();
        for worker in 0..8 {
            let datastore = datastore.clone();
            workers.spawn(async move {
                let now = NOW * MICROS;
                let nodes = datastore.prune_attested_expired_nodes(now, false, 10 + worker).await.unwrap().pruned;
                let entries = datastore.prune_registration_entries(now).await.unwrap().pruned;
                let tokens = datastore.prune_join_tokens(now).await.unwrap();
                let deleted = match datastore.delete_attested_node(format!("n{worker}")).await {
                    Ok(_) => 1,
                    Err(error) => {
                        assert!(error.is_not_found(), "{error}");
                        0
                    }
                };
                (nodes + deleted, entries, tokens)
            });
        }
        let pruned = workers.join_all().await;
        let sum = |part: fn(&(u64, u64, u64)) -> u64| pruned.iter().map(part).sum::<u64>();
        assert_eq!((sum(|sums| sums.0), sum(|sums| sums.1), sum(|sums| sums.2)), (60, 60, 60));
        assert_eq!(node_event_ids(&datastore).await, (1..=120).collect::<Vec<_>>());
        assert_eq!(entry_event_ids(&datastore).await, (1..=120).collect::<Vec<_>>());
    });
}

/// A read made after seeing an event reflects at least what produced it (1.4).
#[test]
fn records_are_never_older_than_events() {
    run(async {
        let datastore = namespace().await;
        let created = datastore.create_registration_entry(entry("p", "w", letters("A"))).await.unwrap();
        let id = created.entry_id.clone();
        let writer = tokio::spawn({
            let datastore = datastore.clone();
            async move {
                for _ in 0..200 {
                    datastore.update_registration_entry(created.clone(), None).await.unwrap();
                }
            }
        });
        let mut last = 0;
        while last < 201 {
            let events = datastore.stale().list_registration_entry_events(last, 0).await.unwrap();
            last = events.last().map_or(last, |event| event.event_id);
            let entry = datastore.fetch_registration_entry(id.as_str()).await.unwrap().unwrap();
            assert!(entry.revision_number + 1 >= last as i64, "{} at event {last}", entry.revision_number);
            let entry = datastore.stale().fetch_registration_entry(id.as_str()).await.unwrap().unwrap();
            assert!(entry.revision_number + 1 >= last as i64, "{} at event {last}, stale", entry.revision_number);
        }
        writer.await.unwrap();
    });
}
