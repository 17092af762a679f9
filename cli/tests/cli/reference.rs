//! The whole command reference, as a snapshot: whoever changes what people and scripts rely on sees it in the diff.

use crate::harness::Home;

const COMMANDS: [&str; 50] = [
    "",
    "init",
    "devnet",
    "deploy",
    "faucet",
    "deposit",
    "withdraw",
    "balance",
    "channel",
    "channel open",
    "channel list",
    "channel show",
    "channel top-up",
    "channel close",
    "channel request-close",
    "channel withdraw",
    "operator",
    "operator add",
    "operator remove",
    "operator list",
    "splitter",
    "splitter deploy",
    "splitter show",
    "splitter release",
    "claim",
    "earnings",
    "receipts",
    "receipts list",
    "receipts show",
    "receipts verify",
    "receipts export",
    "ledger",
    "ledger backup",
    "ledger restore",
    "ledger check",
    "ledger compact",
    "ledger move",
    "models",
    "chat",
    "node",
    "node run",
    "watch",
    "tower",
    "tower list",
    "tower ping",
    "tower status",
    "doctor",
    "completions",
    "exit-codes",
    "help exit-codes",
];

#[test]
fn reference() {
    let home = Home::new();
    let mut text = String::new();
    for command in COMMANDS {
        let mut arguments: Vec<&str> = command.split_whitespace().collect();
        if !command.starts_with("help") {
            arguments.push("--help");
        }
        let help = home.run(&arguments);
        assert_eq!(help.code, 0, "{command}");
        // What every command takes stands in the program's own help.
        let own = if command.is_empty() {
            help.stdout.as_str()
        } else {
            help.stdout.split("\nGlobal options:").next().unwrap_or_default()
        };
        let own: Vec<&str> = own.lines().map(str::trim_end).collect();
        text.push_str(&format!("# lloomctl {command}\n\n{}\n\n", own.join("\n").trim_end()));
    }
    insta::assert_snapshot!(text);
}

#[test]
fn every_command_is_in_the_reference() {
    let home = Home::new();
    for parent in [
        "", "channel", "operator", "splitter", "receipts", "ledger", "node", "tower",
    ] {
        let mut arguments: Vec<&str> = parent.split_whitespace().collect();
        arguments.push("--help");
        let help = home.run(&arguments).stdout;
        let listed = help
            .lines()
            .skip_while(|line| *line != "Commands:")
            .skip(1)
            .take_while(|line| !line.is_empty())
            .filter_map(|line| line.split_whitespace().next())
            .filter(|name| *name != "help");
        for name in listed {
            let command = format!("{parent} {name}");
            assert!(COMMANDS.contains(&command.trim()), "{command}");
        }
    }
}

#[test]
fn exit_codes_are_documented() {
    let home = Home::new();
    insta::assert_snapshot!(home.run(&["exit-codes"]).stdout);
    let codes = home.json(&["exit-codes"]);
    assert_eq!(codes.as_array().unwrap().len(), 10);
}

#[test]
fn shells_get_completions() {
    let home = Home::new();
    for shell in ["bash", "zsh", "fish"] {
        let script = home.run(&["completions", shell]);
        assert_eq!(script.code, 0);
        assert!(script.stdout.contains("request-close"), "{shell}");
    }
}
