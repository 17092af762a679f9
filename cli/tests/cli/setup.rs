//! Making a home.

use std::{io::Write as _, process::Stdio};

use crate::harness::{Home, PASSWORD, end};

const KEY: &str = "ac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80";
const ADDRESS: &str = "0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266";

const EXECUTOR: [&str; 10] = [
    "init",
    "--role",
    "executor",
    "--model",
    "llama3.2:3b",
    "--price",
    "0.15/0.60",
    "--insecure-fast-kdf",
    "--no-mdns",
    "--json",
];

#[test]
fn an_executor_is_configured_by_one_command() {
    let home = Home::new();
    let made = home.run(&EXECUTOR).json();
    assert_eq!(
        made["address"], made["payee"],
        "earnings go to the own key unless a payee is named"
    );
    let config = std::fs::read_to_string(home.path().join("config.toml")).unwrap();
    for line in [
        "id = \"llama3.2:3b\"",
        "input_price = \"0.15\"",
        "output_price = \"0.60\"",
        "backend_url = \"http://localhost:11434/v1\"",
    ] {
        assert!(config.contains(line), "{line} in {config}");
    }
    // What it wrote it can read: the configuration is right, there is just no chain.
    let checks = home.run(&["doctor", "--json", "--rpc-url", "http://127.0.0.1:1"]);
    assert_eq!(checks.code, 5, "{checks:?}");
    assert!(
        checks.stdout.contains("\"name\":\"configuration\",\"state\":\"good\""),
        "{checks:?}"
    );
    assert!(!checks.stdout.contains("\"name\":\"offer\""), "{checks:?}");
}

#[test]
fn a_home_is_never_made_twice() {
    let home = Home::new();
    home.run(&EXECUTOR).json();
    let before = home.content();
    let again = home.run(&["init", "--role", "client", "--json"]);
    assert_eq!((again.code, &again.failure()["kind"]), (3, &"configuration".into()));
    assert_eq!(home.content(), before);
}

#[test]
fn keys_are_imported_from_standard_input_and_never_shown() {
    let home = Home::new();
    let mut child = home
        .command(&[
            "init",
            "--role",
            "client",
            "--import",
            "-",
            "--insecure-fast-kdf",
            "--json",
        ])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    writeln!(child.stdin.take().unwrap(), "0x{KEY}").unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    assert_eq!(home.address().to_lowercase(), ADDRESS.to_lowercase());
    for (path, _) in home.content() {
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(!text.contains(KEY) && !text.contains(PASSWORD), "{}", path.display());
    }
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(!said.contains(KEY) && !said.contains(PASSWORD));
}

#[test]
fn a_password_has_to_come_from_somewhere() {
    let home = Home::new();
    let mut command = home.command(&["init", "--role", "client", "--json"]);
    command.env_remove("LLOOM_PASSWORD");
    let ended = end(command);
    assert_eq!((ended.code, &ended.failure()["kind"]), (4, &"key".into()));
    assert_eq!(home.content(), Vec::new());

    let file = home.path().join("password");
    std::fs::write(&file, format!("{PASSWORD}\n")).unwrap();
    let mut command = home.command(&[
        "init",
        "--role",
        "client",
        "--insecure-fast-kdf",
        "--password-file",
        file.to_str().unwrap(),
        "--json",
    ]);
    command.env_remove("LLOOM_PASSWORD");
    end(command).json();
}

#[test]
fn what_is_wrong_with_init_leaves_nothing_behind() {
    for wrong in [
        &["init", "--role", "executor"][..],
        &["init", "--role", "executor", "--model", "a", "--price", "0.15"],
        &["init", "--role", "executor", "--model", "a", "--price", "-1/2"],
        &["init", "--role", "executor", "--model", "a", "--price", "0.0000001/2"],
        &[
            "init", "--role", "executor", "--model", "a", "--model", "b", "--model", "c", "--price", "1/2", "--price",
            "1/2",
        ],
        &[
            "init",
            "--role",
            "executor",
            "--backend",
            "localhost",
            "--model",
            "a",
            "--price",
            "1/2",
        ],
        &["init", "--role", "client", "--model", "a"],
        &["init", "--role", "client", "--key", "../escape"],
    ] {
        let home = Home::new();
        let ended = home.run(&[wrong, &["--json"]].concat());
        assert_eq!(
            (ended.code, &ended.failure()["kind"]),
            (2, &"usage".into()),
            "{wrong:?}"
        );
        assert_eq!(home.content(), Vec::new(), "{wrong:?}");
    }
}

#[test]
fn a_tower_without_its_peer_id_is_no_tower() {
    let home = Home::new();
    let offer = [
        "--backend",
        "http://localhost:9/v1",
        "--model",
        "none",
        "--price",
        "1/1",
    ];
    let init = ["init", "--role", "executor", "--insecure-fast-kdf", "--json"];
    let tower = ["--tower", "/ip4/192.0.2.1/tcp/4402"];
    let refused = home.run(&[&init[..], &offer, &tower].concat());
    let failure = refused.failure();
    assert_eq!(failure["kind"], "configuration");
    assert!(failure.to_string().contains("peer id"), "{failure}");
    assert!(!home.path().join("config.toml").exists());
}
