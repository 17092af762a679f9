//! What the documents say can be done as it is told.

use std::{collections::BTreeSet, fs};

use crate::{
    harness::{Home, end},
    operating::read,
    towers::PEER,
};

/// The documents that say what to write into config.toml, and how many pieces each of them has.
const CONFIGURING: [(&str, usize); 2] = [("README.md", 4), ("METRICS.md", 1)];

/// The pieces of configuration in `document`.
fn pieces(document: &str) -> Vec<String> {
    let text = read(document);
    let mut pieces: Vec<_> = text.split("```toml\n").skip(1).collect();
    pieces
        .drain(..)
        .map(|piece| piece.split_once("```").unwrap().0.to_owned())
        .collect()
}

/// The key that a line sets, also one that begins with `#`.
fn key(line: &str) -> Option<&str> {
    let (key, _) = line.trim_start_matches(['#', ' ']).split_once('=')?;
    let key = key.trim();
    let is_key = |character: char| character.is_ascii_lowercase() || character == '_';
    (!key.is_empty() && key.chars().all(is_key)).then_some(key)
}

fn is_section(line: &str) -> bool {
    line.starts_with('[')
}

/// A section's name, whatever is said behind it.
fn section(line: &str) -> &str {
    line.split('#').next().unwrap_or_default().trim()
}

/// `config` with `piece` in it, as README.md says: above the first section, in the section that is there already, or at the
/// end; and in the place of what sets the same.
fn with(config: &str, piece: &str) -> String {
    let mut lines: Vec<String> = config.lines().map(str::to_owned).collect();
    let mut begins = 0;
    // What only goes on with a remark is no line of its own.
    for line in piece
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with([' ', '#']))
    {
        if is_section(line) {
            let known = lines
                .iter()
                .position(|known| is_section(known) && section(known) == section(line));
            begins = known.map_or_else(
                || {
                    lines.push(line.to_owned());
                    lines.len()
                },
                |place| place + 1,
            );
            continue;
        }
        let ends = lines[begins..].iter().position(|line| is_section(line));
        let ends = ends.map_or(lines.len(), |length| begins + length);
        match lines[begins..ends].iter().position(|known| key(known) == key(line)) {
            Some(place) => line.clone_into(&mut lines[begins + place]),
            None => lines.insert(begins, line.to_owned()),
        }
    }
    lines.join("\n") + "\n"
}

/// Whether `home` reads its configuration. Where it says that another store is used, nobody is there.
#[track_caller]
fn assert_read(home: &Home, what: &str) {
    let mut command = home.command(&["doctor", "--json", "--rpc-url", "http://127.0.0.1:1"]);
    command.env("PGCONNECT_TIMEOUT", "1");
    let told = end(command);
    assert!(
        told.stdout.contains("\"name\":\"configuration\",\"state\":\"good\""),
        "{what}: {told:?}"
    );
}

#[test]
fn pieces_of_configuration_go_where_the_documents_say() {
    for (document, count) in CONFIGURING {
        let pieces = pieces(document);
        assert_eq!(pieces.len(), count, "{document}");
        for piece in pieces {
            let home = Home::executor("http://127.0.0.1:1");
            let path = home.path().join("config.toml");
            // An identity is too long for a document, and nobody has that server.
            let piece = piece
                .replace("/ip4/203.0.113.7/tcp/4402/p2p/16Uiu2HA…", PEER)
                .replace("db.example", "127.0.0.1:1");
            let config = with(&fs::read_to_string(&path).unwrap(), &piece);
            fs::write(&path, &config).unwrap();
            assert_read(&home, &config);
            for line in piece
                .lines()
                .filter(|line| key(line).is_some() && !line.starts_with([' ', '#']))
            {
                assert_eq!(
                    config.lines().filter(|found| *found == line).count(),
                    1,
                    "{line} in {config}"
                );
            }
        }
    }
}

#[test]
fn all_pieces_of_configuration_go_into_one_file() {
    let home = Home::executor("http://127.0.0.1:1");
    let path = home.path().join("config.toml");
    let mut config = fs::read_to_string(&path).unwrap();
    for (document, _) in CONFIGURING {
        for piece in pieces(document) {
            config = with(&config, &piece.replace("16Uiu2HA…", PEER.rsplit('/').next().unwrap()));
        }
    }
    fs::write(&path, config.replace("db.example", "127.0.0.1:1")).unwrap();
    assert_read(&home, &config);
}

#[test]
fn the_glossary_has_every_word_once() {
    let mut words = BTreeSet::new();
    let mut before = "";
    let text = read("GLOSSARY.md");
    for line in text.lines() {
        if let Some(row) = line.strip_prefix("| ") {
            let (word, meaning) = row.trim_end_matches(" |").split_once(" | ").unwrap();
            let begins = word == "word";
            assert!(begins || words.insert(word.to_owned()), "{word} is there twice");
            assert!(!meaning.is_empty(), "{word}");
            assert_eq!(before.starts_with('|'), !begins, "a table is broken before {word}");
        }
        before = line;
    }
    assert!(words.len() > 80, "{}", words.len());
}
