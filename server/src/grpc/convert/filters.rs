//! Selectors, filters and pages.

use steeple_engine::spire::entries::queries::EntryFilter;
use steeple_engine::spire::nodes::queries::NodeFilter;
use steeple_engine::spire::pages::{PageRequest, PageResponse};
use steeple_engine::spire::selectors::{Match, Selector, SelectorFilter};
use steeple_wire::spire::v1 as wire;
use tonic::Status;

use super::times;

pub(crate) fn selectors_from_wire(selectors: Vec<wire::Selector>) -> Vec<Selector> {
    selectors.into_iter().map(|selector| Selector { kind: selector.r#type, value: selector.value }).collect()
}

pub(crate) fn selectors_to_wire(selectors: Vec<Selector>) -> Vec<wire::Selector> {
    selectors.into_iter().map(|selector| wire::Selector { r#type: selector.kind, value: selector.value }).collect()
}

pub(crate) fn page_from_wire(page: wire::Pagination) -> PageRequest {
    PageRequest { token: page.token, page_size: page.page_size }
}

pub(crate) fn page_to_wire(page: PageResponse) -> wire::Pagination {
    wire::Pagination { token: page.token, page_size: page.page_size }
}

fn match_from_wire(behavior: i32) -> Result<Match, Status> {
    match wire::MatchBehavior::try_from(behavior) {
        Ok(wire::MatchBehavior::Exact) => Ok(Match::Exact),
        Ok(wire::MatchBehavior::Subset) => Ok(Match::Subset),
        Ok(wire::MatchBehavior::Superset) => Ok(Match::Superset),
        Ok(wire::MatchBehavior::Any) => Ok(Match::Any),
        Err(_) => Err(Status::invalid_argument(format!("unhandled match behavior {behavior}"))),
    }
}

fn by_selectors(filter: wire::BySelectors) -> Result<SelectorFilter, Status> {
    Ok(SelectorFilter { matching: match_from_wire(filter.r#match)?, selectors: selectors_from_wire(filter.selectors) })
}

pub(crate) fn entries_from_wire(filter: Option<wire::RegistrationEntryFilter>) -> Result<EntryFilter, Status> {
    let filter = filter.unwrap_or_default();
    let federates_with = filter.by_federates_with.filter(|filter| !filter.trust_domain_ids.is_empty());
    Ok(EntryFilter {
        parent_id: filter.by_parent_id,
        spiffe_id: filter.by_spiffe_id,
        hint: filter.by_hint,
        selectors: filter.by_selectors.map(by_selectors).transpose()?,
        federates_with: federates_with
            .map(|filter| Ok::<_, Status>((match_from_wire(filter.r#match)?, filter.trust_domain_ids)))
            .transpose()?,
        downstream: filter.by_downstream,
    })
}

pub(crate) fn nodes_from_wire(filter: Option<wire::AttestedNodeFilter>) -> Result<NodeFilter, Status> {
    let filter = filter.unwrap_or_default();
    Ok(NodeFilter {
        attestation_type: filter.by_attestation_type,
        banned: filter.by_banned,
        expires_before: times::optional_round_up(filter.by_expires_before_micros),
        valid_at: times::optional_round_up(filter.valid_at_micros),
        can_reattest: filter.by_can_reattest,
        spiffe_ids: filter.by_spiffe_ids,
        selectors: filter.by_selectors.map(by_selectors).transpose()?,
    })
}
