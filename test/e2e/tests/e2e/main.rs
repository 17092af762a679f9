//! Stories of whole systems: a real chain, real `lloomctl` processes, and a backend whose true counts are known.

mod bad_backends;
mod crashes;
mod demo;
mod monitoring;
mod payment;
mod scripts;
mod shop;
mod stub_backend;
mod watching;
