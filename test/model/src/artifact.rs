//! The committed bytecode.

use alloy::primitives::Bytes;
use serde_json::Value;

/// The creation code of `LloomDeployer`, which creates the others.
pub fn deployer() -> Bytes {
    creation_code(include_str!("../../../bindings/artifacts/LloomDeployer.json"))
}

/// The creation code of the development token.
pub fn token() -> Bytes {
    creation_code(include_str!("../../../bindings/artifacts/DevToken.json"))
}

fn creation_code(artifact: &str) -> Bytes {
    let artifact: Value = serde_json::from_str(artifact).expect("an artifact is JSON");
    let code = artifact["bytecode"]["object"]
        .as_str()
        .expect("an artifact has bytecode");
    code.parse().expect("bytecode is hexadecimal")
}
