//! Requests that change something: which command each stands for, and how it is answered.

use steeple_engine::ids::{RequestId, Revision, Timestamp};
use steeple_engine::spire::notices::Notice;
use steeple_engine::spire::{Answer, Command, bundles, entries, events, federation, journals, nodes, tokens};
use steeple_wire::common::v1::RequestContext;
use steeple_wire::spire::v1 as wire;
use tonic::Status;

use super::convert::{self, answers, times};
use super::scope::Scope;
use crate::node::{NOTICES_MAX, Node};

/// A request that changes something.
pub(crate) trait Mutation: Send + Sized + 'static {
    /// Its answer.
    type Answer: Send;

    /// Its context.
    fn context(&mut self) -> &mut Option<RequestContext>;

    /// What it asks for.
    fn command(self, now: Timestamp) -> Result<Command, Status>;

    /// The answer, given the command's and what its steps did together.
    fn answer(answer: Answer, steps: Steps) -> Result<Self::Answer, Status>;

    /// Whether a repetition is recognised by its request id. A command that depends on the clock is another one each
    /// time, and does no harm when it is carried out twice.
    const REMEMBERED: bool = true;
}

/// What the steps of a command did together.
#[derive(Clone, Debug, Default)]
pub(crate) struct Steps {
    /// Records changed.
    pub(crate) changed: u64,
    /// What prunes and cascades removed, up to [`NOTICES_MAX`].
    pub(crate) notices: Vec<Notice>,
}

/// Carries a mutation out in the namespace that its context names.
pub(crate) async fn mutate<M: Mutation>(node: &Node, mut mutation: M) -> Result<(M::Answer, Revision), Status> {
    let (scope, request) = Scope::of_mutation(node, mutation.context().take()).await?;
    carry_out(&scope, request, mutation).await
}

/// Carries a mutation out.
pub(crate) async fn carry_out<M: Mutation>(
    scope: &Scope,
    request: Option<RequestId>,
    mutation: M,
) -> Result<(M::Answer, Revision), Status> {
    let command = mutation.command(scope.node.clock().now())?;
    let request = request.filter(|_| M::REMEMBERED);
    let (accepted, changed) = scope.submit(request, command).await?;
    let steeple_engine::domain::Answer::Spire(answer) = accepted.answer else {
        return Err(Status::internal("the store gave an answer of another domain"));
    };
    Ok((M::answer(answer, Steps { changed, notices: accepted.notices })?, accepted.revision))
}

/// Declares mutations: request and answer message, the command as an expression over the request, the answer as an
/// expression over the command's.
macro_rules! mutations {
    ($($Request:ident => $Answer:ident: |$request:pat_param| $command:expr, |$answer:pat_param, $steps:pat_param| $reply:expr;)*) => {
        $(
            impl Mutation for wire::$Request {
                type Answer = wire::$Answer;

                fn context(&mut self) -> &mut Option<RequestContext> {
                    &mut self.context
                }

                fn command(self, _now: Timestamp) -> Result<Command, Status> {
                    let $request = self;
                    Ok($command.into_command())
                }

                fn answer($answer: Answer, $steps: Steps) -> Result<Self::Answer, Status> {
                    Ok($reply)
                }
            }
        )*
    };
}

/// Wraps a collection's command.
trait IntoCommand {
    fn into_command(self) -> Command;
}

macro_rules! wrap {
    ($($collection:ident => $variant:ident,)*) => {
        $(
            impl IntoCommand for $collection::Command {
                fn into_command(self) -> Command {
                    Command::$variant(self)
                }
            }
        )*
    };
}

wrap! {
    bundles => Bundle,
    entries => Entry,
    federation => Federation,
    journals => Journal,
    nodes => Node,
    tokens => Token,
}

mutations! {
    CreateBundleRequest => CreateBundleResponse:
        |request| bundles::Command::Create(request.bundle.map(convert::bundles::from_wire)),
        |answer, _| wire::CreateBundleResponse { bundle: answers::bundle(answer)? };
    SetBundleRequest => SetBundleResponse:
        |request| bundles::Command::Set(request.bundle.map(convert::bundles::from_wire)),
        |answer, _| wire::SetBundleResponse { bundle: answers::bundle(answer)? };
    UpdateBundleRequest => UpdateBundleResponse:
        |request| bundles::Command::Update(
            request.bundle.map(convert::bundles::from_wire),
            request.mask.map(convert::bundles::mask_from_wire),
        ),
        |answer, _| wire::UpdateBundleResponse { bundle: answers::bundle(answer)? };
    AppendBundleRequest => AppendBundleResponse:
        |request| bundles::Command::Append(request.bundle.map(convert::bundles::from_wire)),
        |answer, _| wire::AppendBundleResponse { bundle: answers::bundle(answer)? };
    DeleteBundleRequest => DeleteBundleResponse:
        |request| bundles::Command::Delete {
            trust_domain_id: request.trust_domain_id,
            mode: convert::bundles::mode_from_wire(request.mode),
        },
        |_, _| wire::DeleteBundleResponse {};
    PruneBundleRequest => PruneBundleResponse:
        |request| bundles::Command::Prune {
            trust_domain_id: request.trust_domain_id,
            expires_before: times::optional_round_down(request.expires_before_micros),
        },
        |answer, _| wire::PruneBundleResponse { changed: answers::changed(&answer)? };
    TaintX509caRequest => TaintX509caResponse:
        |request| bundles::Command::TaintX509 {
            trust_domain_id: request.trust_domain_id,
            subject_key_id: request.subject_key_id,
        },
        |_, _| wire::TaintX509caResponse {};
    RevokeX509caRequest => RevokeX509caResponse:
        |request| bundles::Command::RevokeX509 {
            trust_domain_id: request.trust_domain_id,
            subject_key_id: request.subject_key_id,
        },
        |_, _| wire::RevokeX509caResponse {};
    TaintJwtKeyRequest => TaintJwtKeyResponse:
        |request| bundles::Command::TaintJwt { trust_domain_id: request.trust_domain_id, key_id: request.key_id },
        |answer, _| wire::TaintJwtKeyResponse { key: answers::key(answer)? };
    RevokeJwtKeyRequest => RevokeJwtKeyResponse:
        |request| bundles::Command::RevokeJwt { trust_domain_id: request.trust_domain_id, key_id: request.key_id },
        |answer, _| wire::RevokeJwtKeyResponse { key: answers::key(answer)? };

    CreateRegistrationEntryRequest => CreateRegistrationEntryResponse:
        |request| entries::Command::CreateOrReturn(request.entry.map(convert::entries::from_wire)),
        |answer, _| wire::CreateRegistrationEntryResponse { entry: answers::entry(answer)?.0 };
    CreateOrReturnRegistrationEntryRequest => CreateOrReturnRegistrationEntryResponse:
        |request| entries::Command::CreateOrReturn(request.entry.map(convert::entries::from_wire)),
        |answer, _| {
            let (entry, existing) = answers::entry(answer)?;
            wire::CreateOrReturnRegistrationEntryResponse { entry, existing }
        };
    UpdateRegistrationEntryRequest => UpdateRegistrationEntryResponse:
        |request| entries::Command::Update(
            request.entry.map(convert::entries::from_wire),
            request.mask.map(convert::entries::mask_from_wire),
        ),
        |answer, _| wire::UpdateRegistrationEntryResponse { entry: answers::entry(answer)?.0 };
    DeleteRegistrationEntryRequest => DeleteRegistrationEntryResponse:
        |request| entries::Command::Delete { entry_id: request.entry_id },
        |answer, _| wire::DeleteRegistrationEntryResponse { entry: answers::entry(answer)?.0 };
    PruneRegistrationEntriesRequest => PruneRegistrationEntriesResponse:
        |request| entries::Command::Prune {
            expires_before: times::round_down(request.expires_before_micros),
            limit: 0,
        },
        |_, steps| {
            let entries = answers::expired_entries(&steps.notices);
            let truncated = entries.len() as u64 != steps.changed;
            wire::PruneRegistrationEntriesResponse { pruned: steps.changed, entries, truncated }
        };

    CreateAttestedNodeRequest => CreateAttestedNodeResponse:
        |request| nodes::Command::Create(request.node.map(convert::nodes::from_wire)),
        |answer, _| wire::CreateAttestedNodeResponse { node: answers::node(answer)? };
    UpdateAttestedNodeRequest => UpdateAttestedNodeResponse:
        |request| nodes::Command::Update(
            request.node.map(convert::nodes::from_wire),
            request.mask.map(convert::nodes::mask_from_wire),
        ),
        |answer, _| wire::UpdateAttestedNodeResponse { node: answers::node(answer)? };
    DeleteAttestedNodeRequest => DeleteAttestedNodeResponse:
        |request| nodes::Command::Delete { spiffe_id: request.spiffe_id },
        |answer, steps| wire::DeleteAttestedNodeResponse {
            node: answers::node(answer)?,
            cascaded: answers::cascaded_entries(&steps.notices),
            cascaded_truncated: steps.notices.len() >= NOTICES_MAX,
        };
    SetNodeSelectorsRequest => SetNodeSelectorsResponse:
        |request| nodes::Command::SetSelectors {
            spiffe_id: request.spiffe_id,
            selectors: convert::filters::selectors_from_wire(request.selectors),
        },
        |_, _| wire::SetNodeSelectorsResponse {};

    CreateJoinTokenRequest => CreateJoinTokenResponse:
        |request| tokens::Command::Create(request.join_token.map(convert::tokens::from_wire)),
        |_, _| wire::CreateJoinTokenResponse {};
    DeleteJoinTokenRequest => DeleteJoinTokenResponse:
        |request| tokens::Command::Delete { token: request.token },
        |_, _| wire::DeleteJoinTokenResponse {};
    PruneJoinTokensRequest => PruneJoinTokensResponse:
        |request| tokens::Command::Prune {
            expires_before: times::round_down(request.expires_before_micros),
            limit: 0,
        },
        |_, steps| wire::PruneJoinTokensResponse { pruned: steps.changed };

    CreateFederationRelationshipRequest => CreateFederationRelationshipResponse:
        |request| federation::Command::Create(request.relationship.map(convert::federation::from_wire)),
        |answer, _| wire::CreateFederationRelationshipResponse { relationship: answers::relationship(answer)? };
    UpdateFederationRelationshipRequest => UpdateFederationRelationshipResponse:
        |request| federation::Command::Update(
            request.relationship.map(convert::federation::from_wire),
            request.mask.map(convert::federation::mask_from_wire),
        ),
        |answer, _| wire::UpdateFederationRelationshipResponse { relationship: answers::relationship(answer)? };
    DeleteFederationRelationshipRequest => DeleteFederationRelationshipResponse:
        |request| federation::Command::Delete { trust_domain: request.trust_domain },
        |_, _| wire::DeleteFederationRelationshipResponse {};

    SetCaJournalRequest => SetCaJournalResponse:
        |request| journals::Command::Set(request.journal.map(convert::journals::from_wire)),
        |answer, _| wire::SetCaJournalResponse { journal: answers::journal(answer)? };
    PruneCaJournalsRequest => PruneCaJournalsResponse:
        |request| journals::Command::Prune { keep_after: request.all_expire_before, limit: 0 },
        |_, steps| {
            let ids = answers::stale_journals(&steps.notices);
            let truncated = ids.len() as u64 != steps.changed;
            wire::PruneCaJournalsResponse { pruned: steps.changed, ids, truncated }
        };
}

impl Mutation for wire::ImportRecordsRequest {
    type Answer = wire::ImportRecordsResponse;

    fn context(&mut self) -> &mut Option<RequestContext> {
        &mut self.context
    }

    fn command(self, _now: Timestamp) -> Result<Command, Status> {
        Ok(Command::Import(convert::imports::batch_from_wire(self)?))
    }

    fn answer(answer: Answer, _steps: Steps) -> Result<Self::Answer, Status> {
        Ok(Self::Answer { import: answers::import(answer)? })
    }
}

impl Mutation for wire::PruneAttestedExpiredNodesRequest {
    type Answer = wire::PruneAttestedExpiredNodesResponse;

    fn context(&mut self) -> &mut Option<RequestContext> {
        &mut self.context
    }

    fn command(self, _now: Timestamp) -> Result<Command, Status> {
        Ok(Command::Node(nodes::Command::Prune {
            expired_before: times::round_up(self.expired_before_micros),
            include_non_reattestable: self.include_non_reattestable,
            batch_size: self.batch_size,
        }))
    }

    fn answer(answer: Answer, steps: Steps) -> Result<Self::Answer, Status> {
        Ok(Self::Answer {
            pruned: steps.changed,
            more: answers::batch(&answer)?.1,
            cascaded: answers::cascaded_entries(&steps.notices),
            cascaded_truncated: steps.notices.len() >= NOTICES_MAX,
        })
    }
}

/// The instant that lies this long before now.
fn age(now: Timestamp, older_than_micros: i64) -> Result<u64, Status> {
    let age = u64::try_from(older_than_micros).map_err(|_| {
        Status::invalid_argument(format!("older_than_micros is {older_than_micros}, it must not be negative"))
    })?;
    Ok(now.0.saturating_sub(age))
}

macro_rules! event_prunes {
    ($($Request:ident => $Answer:ident: $variant:ident;)*) => {
        $(
            impl Mutation for wire::$Request {
                type Answer = wire::$Answer;

                const REMEMBERED: bool = false;

                fn context(&mut self) -> &mut Option<RequestContext> {
                    &mut self.context
                }

                fn command(self, now: Timestamp) -> Result<Command, Status> {
                    let older_than_micros = age(now, self.older_than_micros)?;
                    Ok(Command::Event(events::Command::$variant { older_than_micros, limit: 0 }))
                }

                fn answer(_answer: Answer, steps: Steps) -> Result<Self::Answer, Status> {
                    Ok(wire::$Answer { pruned: steps.changed })
                }
            }
        )*
    };
}

event_prunes! {
    PruneRegistrationEntryEventsRequest => PruneRegistrationEntryEventsResponse: PruneEntryEvents;
    PruneAttestedNodeEventsRequest => PruneAttestedNodeEventsResponse: PruneNodeEvents;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_are_counted_from_now() {
        assert_eq!(age(Timestamp(1_000), 0).unwrap(), 1_000);
        assert_eq!(age(Timestamp(1_000), 400).unwrap(), 600);
        assert_eq!(age(Timestamp(1_000), i64::MAX).unwrap(), 0);
        assert_eq!(age(Timestamp(1_000), -1).unwrap_err().code(), tonic::Code::InvalidArgument);
    }

    #[test]
    fn instants_are_rounded_as_their_comparison_needs() {
        let command = wire::PruneAttestedExpiredNodesRequest { expired_before_micros: 1_500_000, ..Default::default() }
            .command(Timestamp(0));
        assert!(matches!(command, Ok(Command::Node(nodes::Command::Prune { expired_before: 2, .. }))), "{command:?}");
        let command = wire::PruneRegistrationEntriesRequest { context: None, expires_before_micros: 1_500_000 }
            .command(Timestamp(0));
        assert!(
            matches!(command, Ok(Command::Entry(entries::Command::Prune { expires_before: 1, .. }))),
            "{command:?}"
        );
    }
}
