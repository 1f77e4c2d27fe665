mod attestation;
mod deletion;
mod listing;
mod pruning;
mod selectors;
mod update;
