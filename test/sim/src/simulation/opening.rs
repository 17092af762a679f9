//! Who there is, and with what, before anything happens.

use std::{cell::RefCell, io, path::PathBuf};

use lloom_bindings::ExecutorRegistry;
use tempfile::TempDir;

use super::{FIRST_ACTION, Options, Simulation, peace::USUAL_BASE_FEE};
use crate::{
    cast::{Buyer, Crook, Rogue, Seller},
    chain::Genesis,
    choices::Choices,
    client::ClientSetup,
    executor::ExecutorSetup,
    grants::Grants,
    process::Process,
    world::Shared,
};

/// The number of an executor that cheats.
const CROOK: u8 = 9;

impl Simulation {
    pub(super) fn new(options: &Options) -> io::Result<Self> {
        let mut choices = match &options.bytes {
            Some(bytes) => Choices::of_bytes(bytes),
            None => Choices::of_seed(options.seed),
        };
        let mut genesis = Genesis::deployed();
        let home = match PathBuf::from("/dev/shm") {
            memory if memory.is_dir() => TempDir::with_prefix_in("lloom-sim-", memory)?,
            _ => TempDir::with_prefix("lloom-sim-")?,
        };
        let executors = if choices.chance(250) { 2 } else { 1 };
        let clients = choices.between(1, 2) as u8;
        let setups: Vec<_> = (0..executors)
            .map(|number| ExecutorSetup::choose(number, &genesis, &mut choices))
            .collect();
        let client_setups: Vec<_> = (0..clients)
            .map(|number| ClientSetup::choose(number, setups[0].watcher.clone(), &mut choices))
            .collect();
        for setup in &setups {
            genesis.endow(setup.operator.address());
        }
        let cheats = choices.chance(400);
        let crook_setup = choices
            .chance(400)
            .then(|| ExecutorSetup::choose(CROOK, &genesis, &mut choices));
        let rogue_setup = ClientSetup::choose(clients, setups[0].watcher.clone(), &mut choices);
        for setup in client_setups.iter().chain([&rogue_setup]) {
            genesis.endow(setup.payer);
        }
        let world = Shared::new(&genesis, options.prints, options.flaw);
        let process = |id: usize, name: String, choices: &mut Choices| {
            Process::new(id, name, world.clone(), home.path().to_owned(), choices.branch())
        };
        let mut sellers = Vec::new();
        for (id, setup) in setups.into_iter().enumerate() {
            let mut locked = world.lock();
            locked.is_operator(id, setup.operator.address());
            let operator = setup.operator.address();
            locked.witness.exposure.insert(operator, setup.config.exposure);
            let add = ExecutorRegistry::addOperatorCall {
                operator: setup.operator.address(),
            };
            locked.chain.run_errand(setup.payee, genesis.contracts.registry, &add);
            drop(locked);
            let process = process(id, format!("executor{id}"), &mut choices);
            sellers.push(Seller::new(setup, process));
        }
        let mut buyers = Vec::new();
        for (number, setup) in client_setups.into_iter().enumerate() {
            let process = process(sellers.len() + number, format!("client{number}"), &mut choices);
            world.lock().is_client(process.id(), setup.config.tolerance);
            buyers.push(Buyer::new(setup, process));
        }
        let rogue = cheats.then(|| {
            let process = process(sellers.len() + buyers.len(), String::from("cheat"), &mut choices);
            Rogue::new(rogue_setup, process)
        });
        let crook = crook_setup.map(|setup| {
            let id = sellers.len() + buyers.len() + usize::from(cheats);
            Crook::new(setup, process(id, String::from("crook"), &mut choices))
        });
        let pace = *choices.pick(&[30_000, 60_000, 120_000]);
        let chaos_ends = choices.between(10 * 60_000, 70 * 60_000);
        Ok(Self {
            world,
            genesis,
            sellers,
            buyers,
            rogue,
            crook,
            channels: Vec::new(),
            grants: Grants::default(),
            next_block: 1_000,
            block_time: *choices.pick(&[15_000, 30_000, 60_000]),
            next_action: FIRST_ACTION,
            pace,
            chaos_ends,
            dear: choices.chance(300),
            peace_fee: USUAL_BASE_FEE,
            weather_ends: 0,
            talks_until: 0,
            disturbances: Vec::new(),
            violations: Vec::new(),
            states: RefCell::default(),
            choices,
            _home: home,
        })
    }
}
