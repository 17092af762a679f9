//! What a person sees who sits at a terminal. `script`, of util-linux, is the terminal.

use std::{
    io::{Read as _, Write as _},
    process::{Command, Stdio},
    sync::{Arc, Mutex},
    thread,
    time::Duration,
};

use crate::harness::{Devnet, Home, PASSWORD, eventually};

/// Several redraws of a line that moves.
const REDRAWS: Duration = Duration::from_millis(500);

#[test]
fn nothing_moves_while_a_password_is_typed() {
    let devnet = Devnet::start();
    let home = Home::client(&devnet.url);
    let chat = home.command(&[]);
    let mut terminal = Command::new("script");
    let program = chat.get_program().to_str().unwrap();
    terminal
        .args(["--quiet", "--return", "--command"])
        .arg(format!("{program} chat 'Why is the sky blue?'"))
        .arg("/dev/null")
        .env_clear()
        .envs(chat.get_envs().filter_map(|(name, value)| Some((name, value?))))
        .env_remove("LLOOM_PASSWORD")
        .env("TERM", "xterm");
    let mut terminal = terminal.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let shown = Arc::new(Mutex::new(String::new()));
    let mut screen = terminal.stdout.take().unwrap();
    let drawing = Arc::clone(&shown);
    let reader = thread::spawn(move || {
        let mut bytes = [0; 4_096];
        while let Ok(length @ 1..) = screen.read(&mut bytes) {
            drawing
                .lock()
                .unwrap()
                .push_str(&String::from_utf8_lossy(&bytes[..length]));
        }
    });
    let asked = || {
        let shown = shown.lock().unwrap();
        let (_, after) = shown.split_once("hot.json: ")?;
        Some(after.to_owned())
    };
    eventually("the question for the password", asked);
    thread::sleep(REDRAWS);
    assert_eq!(asked().unwrap(), "", "something was drawn over it");

    // From then on it says what it does.
    let mut keyboard = terminal.stdin.take().unwrap();
    writeln!(keyboard, "{PASSWORD}").unwrap();
    let ended = terminal.wait().unwrap();
    reader.join().unwrap();
    let shown = shown.lock().unwrap();
    assert_eq!(ended.code(), Some(7), "{shown}");
    assert!(shown.contains("Joining the network"), "{shown}");
    assert!(!shown.contains(PASSWORD), "{shown}");
    assert!(!shown.contains("0/0"), "{shown}");
}
