//! Stories of whole systems.

mod stub_backend;
