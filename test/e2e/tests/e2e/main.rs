//! Stories of whole systems: a real chain, real `lloomctl` processes, and a backend whose true counts are known.

mod bad_backends;
mod chaos;
mod crashes;
mod demo;
mod killings;
mod monitoring;
mod payment;
mod rush;
mod scripts;
mod sharing;
mod shop;
mod stand;
mod stub_backend;
mod surroundings;
mod towers;
mod watching;
