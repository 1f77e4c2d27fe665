//! The rules of repair, one by one, and the rule of the majority for every small group.

use super::*;

fn set(bits: u64) -> BTreeSet<u64> {
    (0..8).filter(|bit| bits & (1 << bit) != 0).map(|bit| bit + 1).collect()
}

fn is_majority(voters: u64, members: u64) -> bool {
    (voters & members).count_ones() > voters.count_ones() / 2
}

/// Every group of up to six voters, every joint configuration within five nodes: whatever was committed with the help
/// of the damaged member is in one of the logs that are asked, and nothing is committed without those.
#[test]
fn what_a_majority_of_the_others_does_not_have_is_not_committed() {
    const OWN: u64 = 1;
    let mut decided = 0;
    for voters in 1..64_u64 {
        for outgoing in (0..32_u64).filter(|outgoing| *outgoing == 0 || voters < 32) {
            let configuration = Configuration { voters: set(voters), voters_outgoing: set(outgoing) };
            let commits =
                |members: u64| is_majority(voters, members) && (outgoing == 0 || is_majority(outgoing, members));
            for asked in 0..64_u64 {
                if !configuration.is_majority_without(NodeId(1), &set(asked)) {
                    continue;
                }
                decided += 1;
                for holders in (0..64_u64).filter(|holders| holders & OWN != 0 && commits(*holders)) {
                    assert!(holders & asked & !OWN != 0, "{configuration:?}: {asked:b} misses {holders:b}");
                }
                assert!(!commits(!asked | OWN), "{configuration:?}: something can be committed without {asked:b}");
            }
        }
    }
    assert!(decided > 5_000, "{decided}");
}

/// One member fewer would lose what is committed.
#[test]
fn one_below_the_majority_is_too_low() {
    let configuration = Configuration { voters: set(0b111), voters_outgoing: BTreeSet::new() };
    assert!(!configuration.is_majority_without(NodeId(1), &set(0b010)));
    // The damaged member counts for nothing, also when it is counted by mistake.
    assert!(!configuration.is_majority_without(NodeId(1), &set(0b011)));
    assert!(configuration.is_majority_without(NodeId(1), &set(0b110)));
    let joint = Configuration { voters: set(0b111), voters_outgoing: set(0b11001) };
    assert!(!joint.is_majority_without(NodeId(1), &set(0b110)));
    assert!(joint.is_majority_without(NodeId(1), &set(0b11110)));
}

/// A log in short: `(first, last, term, intact)`; term 0 is unknown.
fn outline(runs: &[(u64, u64, u64, bool)]) -> Outline {
    let run = |&(first, last, term, intact): &(u64, u64, u64, bool)| Run {
        first: LogIndex(first),
        last: LogIndex(last),
        term: (term != 0).then_some(Term(term)),
        intact,
    };
    Outline { base: LogPosition::default(), runs: runs.iter().map(run).collect(), end_known: true }
}

fn statement(term: u64, commit: u64, runs: &[(u64, u64, u64, bool)]) -> Statement {
    Statement {
        term: Term(term),
        leads: false,
        commit: LogIndex(commit),
        outline: outline(runs),
        configuration: Some(Configuration { voters: set(0b111), voters_outgoing: BTreeSet::new() }),
    }
}

/// The verdict for member 1 with these answers of members 2, 3, ..., after so many rounds that a fence is due.
fn judge(own: &Statement, answers: &[Statement], fence: Option<u64>) -> Verdict {
    let mut repair = Repair::new(NodeId(1));
    for _ in 0..=ROUNDS_BEFORE_FENCE {
        repair.begin_round(own);
    }
    if let Some(term) = fence {
        repair.fenced(Term(term));
    }
    for (node, answer) in (2..).zip(answers) {
        repair.hear(NodeId(node), answer.clone()).unwrap();
    }
    repair.verdict(own, &[])
}

fn fetch(first: u64, last: u64, term: u64, sources: &[u64]) -> Verdict {
    let sources = sources.iter().map(|source| NodeId(*source)).collect();
    Verdict::Fetch(vec![Wanted { first: LogIndex(first), last: LogIndex(last), term: Term(term), sources }])
}

#[test]
fn a_copy_of_the_same_index_and_term_is_taken_from_whoever_has_it() {
    let own = statement(3, 0, &[(1, 4, 1, true), (5, 5, 2, false), (6, 8, 2, true)]);
    let has = statement(3, 0, &[(1, 4, 1, true), (5, 8, 2, true)]);
    let damaged = statement(3, 0, &[(1, 4, 1, true), (5, 5, 2, false)]);
    let other = statement(3, 0, &[(1, 4, 1, true), (5, 5, 3, true)]);
    assert_eq!(judge(&own, &[has, damaged.clone()], None), fetch(5, 5, 2, &[2]));
    assert!(matches!(judge(&own, &[damaged, other], None), Verdict::Fence(Term(4))));
}

#[test]
fn what_is_committed_elsewhere_decides() {
    let own = statement(3, 0, &[(1, 4, 1, true), (5, 5, 2, false), (6, 6, 2, true)]);
    let committed = statement(3, 5, &[(1, 4, 1, true), (5, 6, 3, true)]);
    assert_eq!(judge(&own, std::slice::from_ref(&committed), None), Verdict::Discard { from: LogIndex(5) });
    // Nothing is known of the entry, and nothing came after it.
    let unknown = statement(3, 0, &[(1, 4, 1, true), (5, 6, 0, false)]);
    assert_eq!(judge(&unknown, std::slice::from_ref(&committed), None), fetch(5, 5, 3, &[2]));
    // What came after it may have followed on another one.
    let followed = statement(3, 0, &[(1, 4, 1, true), (5, 5, 0, false), (6, 6, 2, true)]);
    assert!(matches!(judge(&followed, &[committed], None), Verdict::Wait(Obstacle::Undecided { .. })));
    let same = statement(3, 5, &[(1, 4, 1, true), (5, 6, 2, true)]);
    assert_eq!(judge(&followed, &[same], None), fetch(5, 5, 2, &[2]));
}

#[test]
fn a_leader_of_our_term_or_later_decides_at_once() {
    let own = statement(3, 0, &[(1, 4, 1, true), (5, 5, 2, false)]);
    let leader = |term| Statement { leads: true, ..statement(term, 4, &[(1, 4, 1, true)]) };
    assert_eq!(judge(&own, &[leader(3)], None), Verdict::Discard { from: LogIndex(5) });
    assert!(matches!(judge(&own, &[leader(2)], None), Verdict::Wait(_)), "an older leader knows nothing");
    let endless = Statement { outline: Outline { end_known: false, ..own.outline.clone() }, ..own.clone() };
    let ahead = Statement { leads: true, ..statement(3, 4, &[(1, 4, 1, true), (5, 9, 3, true)]) };
    assert_eq!(judge(&endless, &[ahead], None), Verdict::Discard { from: LogIndex(5) });
    let lost = Statement { outline: Outline { end_known: false, ..outline(&[(1, 4, 1, true)]) }, ..own };
    let ahead = Statement { leads: true, ..statement(3, 4, &[(1, 4, 1, true), (5, 9, 3, true)]) };
    assert_eq!(judge(&lost, &[ahead], None), Verdict::EndsAt { last: LogIndex(9) });
}

#[test]
fn without_a_leader_only_a_majority_behind_a_fence_decides() {
    let own = statement(3, 0, &[(1, 4, 1, true), (5, 5, 2, false)]);
    let without = |term| statement(term, 0, &[(1, 4, 1, true)]);
    assert_eq!(judge(&own, &[without(3), without(6)], None), Verdict::Fence(Term(7)));
    let own = Statement { term: Term(7), ..own };
    assert!(matches!(judge(&own, &[without(7), without(6)], Some(7)), Verdict::Wait(_)), "one is not fenced");
    assert!(matches!(judge(&own, &[without(7)], Some(7)), Verdict::Wait(_)), "one is not a majority of three");
    assert_eq!(judge(&own, &[without(7), without(7)], Some(7)), Verdict::Discard { from: LogIndex(5) });
    let uncertain = Statement { configuration: None, ..without(7) };
    assert!(matches!(judge(&own, &[without(7), uncertain], Some(7)), Verdict::Wait(_)));
    let has_it = statement(7, 0, &[(1, 4, 1, true), (5, 5, 2, false)]);
    assert!(matches!(judge(&own, &[without(7), has_it], Some(7)), Verdict::Wait(Obstacle::NoCopy { .. })));
    let has_other = statement(7, 0, &[(1, 4, 1, true), (5, 5, 3, true)]);
    assert_eq!(judge(&own, &[without(7), has_other], Some(7)), Verdict::Discard { from: LogIndex(5) });
}

#[test]
fn what_is_committed_here_is_never_given_up() {
    let own = statement(3, 5, &[(1, 4, 1, true), (5, 5, 2, false)]);
    let leader = Statement { leads: true, ..statement(4, 4, &[(1, 4, 1, true)]) };
    let contradiction = Verdict::Wait(Obstacle::Contradiction { index: LogIndex(5) });
    assert_eq!(judge(&own, &[leader], None), contradiction);
}

#[test]
fn what_others_have_purged_comes_with_a_snapshot() {
    let own = statement(3, 3, &[(1, 1, 1, true), (2, 2, 1, false), (3, 8, 1, true)]);
    let mut purged = statement(3, 9, &[(6, 9, 1, true)]);
    purged.outline.base = LogPosition { index: LogIndex(5), term: Term(1) };
    let verdict = Verdict::Snapshot { sources: vec![NodeId(2)], at_least: LogIndex(8) };
    assert_eq!(judge(&own, &[purged], None), verdict);
}

#[test]
fn statements_that_make_no_sense_are_not_heard() {
    let mut repair = Repair::new(NodeId(1));
    for runs in [
        &[(2, 1, 1, true)][..],
        &[(1, 3, 2, true), (3, 4, 2, true)],
        &[(1, 3, 2, true), (4, 4, 1, true)],
        &[(1, u64::MAX, 2, true)],
        &[(1, 1, 0, true)],
    ] {
        assert_eq!(repair.hear(NodeId(2), statement(3, 0, runs)), Err(Unsound));
    }
    assert_eq!(repair.heard(), 0);
}
