//! The agents and entries that the calls are about.

use crate::cli::load::deployment::Deployment;

/// What one agent's calls are about.
#[derive(Clone, Debug, Default)]
pub(super) struct Agent {
    pub(super) spiffe_id: String,
    /// SPIFFE IDs of its workloads.
    pub(super) workloads: Vec<String>,
    /// Trust domains that any of them federates with.
    pub(super) federated: Vec<String>,
}

/// A deployment, and its agents with what belongs to them.
#[derive(Debug)]
pub(super) struct Population {
    pub(super) deployment: Deployment,
    pub(super) agents: Vec<Agent>,
}

impl Population {
    pub(super) fn of(deployment: Deployment) -> Self {
        let mut agents: Vec<Agent> = (0..deployment.agents)
            .map(|number| Agent { spiffe_id: deployment.agent_id(number), ..Agent::default() })
            .collect();
        let places: std::collections::HashMap<String, usize> =
            agents.iter().enumerate().map(|(place, agent)| (agent.spiffe_id.clone(), place)).collect();
        for number in 0..deployment.entries {
            let entry = deployment.registration_entry(number);
            let Some(agent) = places.get(&entry.parent_id).and_then(|place| agents.get_mut(*place)) else { continue };
            agent.workloads.push(entry.spiffe_id);
            for domain in entry.federates_with {
                if !agent.federated.contains(&domain) {
                    agent.federated.push(domain);
                }
            }
        }
        Self { deployment, agents }
    }

    /// The trust domain of the deployment itself.
    pub(super) fn own_domain(&self) -> String {
        format!("spiffe://{}", self.deployment.trust_domain)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_workload_has_its_agent() {
        let deployment = Deployment {
            seed: 1,
            agents: 50,
            entries: 500,
            trust_domain: "prod.example".into(),
            base_seconds: 1_700_000_000,
        };
        let population = Population::of(deployment);
        assert_eq!(population.agents.len(), 50);
        assert_eq!(population.agents.iter().map(|agent| agent.workloads.len()).sum::<usize>(), 500);
        assert!(population.agents.iter().any(|agent| !agent.federated.is_empty()));
        assert_eq!(population.own_domain(), "spiffe://prod.example");
    }
}
