//! A sequence of steps, done by the model and by the chain, and compared after each.

use std::{
    fmt::{self, Write as _},
    sync::Arc,
};

use rand::{SeedableRng, rngs::StdRng};

use crate::{
    action::Action, chain::Chain, coverage::Coverage, flaw::Flaw, generator, model::Model, outcome::Outcome, views,
    world::World,
};

/// Both sides, in the same state as long as they agree.
pub struct Run {
    chain: Chain,
    model: Model,
}

/// What the two sides did not agree on.
#[derive(Clone, Debug)]
pub struct Difference {
    /// What it is about: the transaction, or a view after it.
    pub what: String,
    /// The model's answer.
    pub model: String,
    /// The contracts' answer.
    pub contracts: String,
}

/// A sequence on which the two sides disagree.
#[derive(Clone, Debug)]
pub struct Disagreement {
    /// The seed that generated it.
    pub seed: u64,
    /// Its steps; the two sides disagree after the last.
    pub actions: Vec<Action>,
    /// About what.
    pub difference: Difference,
    flaw: Option<Flaw>,
    world: Arc<World>,
}

impl Run {
    /// Both sides as `chain` is; `flaw` breaks the model.
    pub fn new(chain: &Chain, flaw: Option<Flaw>) -> Self {
        Self {
            chain: chain.clone(),
            model: Model::new(chain.world.clone(), flaw),
        }
    }

    /// Does a step on both sides.
    ///
    /// # Errors
    /// What they don't agree on: what was returned or raised, the events, or any view after it.
    pub fn step(&mut self, action: &Action) -> Result<Option<Outcome>, Difference> {
        let (expected, actual) = (self.model.apply(action), self.chain.apply(action));
        if expected != actual {
            let text = |outcome: Option<Outcome>| outcome.map_or_else(String::new, |outcome| outcome.to_string());
            return Err(Difference {
                what: action.name().to_owned(),
                model: text(expected),
                contracts: text(actual),
            });
        }
        self.compare_views()?;
        Ok(actual)
    }

    fn compare_views(&mut self) -> Result<(), Difference> {
        let views = views::of(&self.model);
        let answers = self.chain.ask(views.iter().map(|view| (view.to, view.data.clone())));
        for (view, answer) in views.into_iter().zip(answers) {
            if view.answer != answer {
                return Err(Difference {
                    what: view.describe(),
                    model: view.answer.to_string(),
                    contracts: answer.to_string(),
                });
            }
        }
        Ok(())
    }
}

/// Gives the accounts tokens, and then runs `steps` steps that `seed` determines; counts in `coverage` what happens.
///
/// # Errors
/// The sequence, cut where the two sides disagree.
pub fn sequence(
    chain: &Chain,
    flaw: Option<Flaw>,
    seed: u64,
    steps: usize,
    coverage: &mut Coverage,
) -> Result<(), Box<Disagreement>> {
    let mut random = StdRng::seed_from_u64(seed);
    let mut run = Run::new(chain, flaw);
    let mut opening = generator::opening(&run.model.world).into_iter();
    let mut actions = Vec::new();
    let total = opening.len() + steps;
    while actions.len() < total {
        let action = opening
            .next()
            .unwrap_or_else(|| generator::action(&mut random, &run.model, &actions));
        actions.push(action.clone());
        match run.step(&action) {
            Ok(outcome) => coverage.count(&action, outcome.as_ref()),
            Err(difference) => {
                return Err(Box::new(Disagreement {
                    seed,
                    flaw,
                    actions,
                    difference,
                    world: Arc::clone(&chain.world),
                }));
            }
        }
    }
    Ok(())
}

impl Disagreement {
    /// Leaves out whatever steps are not needed for the two sides to disagree: halves first, single steps last.
    #[must_use]
    pub fn shrunk(mut self, chain: &Chain) -> Self {
        let mut size = self.actions.len() / 2;
        while size > 0 {
            let mut start = 0;
            while start < self.actions.len() {
                let end = (start + size).min(self.actions.len());
                let mut fewer = [&self.actions[..start], &self.actions[end..]].concat();
                if let Some((length, difference)) = replay(chain, self.flaw, &fewer) {
                    fewer.truncate(length);
                    self.actions = fewer;
                    self.difference = difference;
                } else {
                    start = end;
                }
            }
            size /= 2;
        }
        self
    }
}

/// After how many of these steps the two sides disagree, and about what.
fn replay(chain: &Chain, flaw: Option<Flaw>, actions: &[Action]) -> Option<(usize, Difference)> {
    let mut run = Run::new(chain, flaw);
    actions
        .iter()
        .enumerate()
        .find_map(|(index, action)| run.step(action).err().map(|found| (index + 1, found)))
}

impl fmt::Display for Disagreement {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = String::new();
        for (index, action) in self.actions.iter().enumerate() {
            match action {
                Action::Wait(seconds) => writeln!(text, "{index:4}. wait {seconds} s")?,
                Action::Call { caller, to, call } => writeln!(text, "{index:4}. {caller:?} calls {to:?}: {call:?}")?,
            }
        }
        let Difference { what, model, contracts } = &self.difference;
        write!(text, "{what}\n  model:     {model}\n  contracts: {contracts}")?;
        writeln!(
            formatter,
            "model and contracts disagree; LLOOM_MODEL_SEED={} finds it again",
            self.seed
        )?;
        formatter.write_str(&self.world.with_names(&text))
    }
}
