//! What operators are given besides the program: METRICS.md, alert rules, runbooks and the dashboard belong together.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use serde_json::Value;
use yaml_rust2::{Yaml, YamlLoader};

use crate::harness::Home;

/// One row of METRICS.md.
pub struct Documented {
    pub name: String,
    pub kind: String,
    pub labels: BTreeSet<String>,
    pub meaning: String,
    pub section: String,
}

impl Documented {
    /// The words that its meaning quotes.
    pub fn quoted(&self) -> impl Iterator<Item = &str> {
        self.meaning.split('`').skip(1).step_by(2)
    }
}

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

pub fn read(path: &str) -> String {
    let path = repository().join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// What METRICS.md says, by name.
pub fn documented_metrics() -> BTreeMap<String, Documented> {
    let mut metrics = BTreeMap::new();
    let mut section = String::new();
    for line in read("METRICS.md").lines() {
        if let Some(title) = line.strip_prefix("## ") {
            section = title.to_owned();
        }
        let Some(row) = line.strip_prefix("| `lloom_") else {
            continue;
        };
        let cells: Vec<_> = row.trim_end_matches('|').split('|').map(str::trim).collect();
        let [name, kind, labels, unit, meaning, normal] = cells[..] else {
            panic!("a row of METRICS.md has six cells: {line}");
        };
        let name = format!("lloom_{}", name.trim_end_matches('`'));
        assert!(!meaning.is_empty(), "{name} means something");
        let described = Documented {
            name: name.clone(),
            kind: kind.to_owned(),
            labels: labels
                .split(',')
                .map(str::trim)
                .filter(|label| !label.is_empty())
                .map(str::to_owned)
                .collect(),
            meaning: meaning.to_owned(),
            section: section.clone(),
        };
        assert_eq!(
            name.contains("_seconds"),
            unit.contains("seconds"),
            "{name}: {unit} ({normal})"
        );
        assert!(
            metrics.insert(name.clone(), described).is_none(),
            "{name} is there twice"
        );
    }
    metrics
}

struct Alert {
    name: String,
    expression: String,
    runbook: String,
}

fn alerts() -> Vec<Alert> {
    let text = read("monitoring/alerts.yml");
    let documents = YamlLoader::load_from_str(&text).unwrap();
    let [document] = &documents[..] else {
        panic!("one document");
    };
    let groups = document["groups"].as_vec().unwrap();
    let rules = groups.iter().flat_map(|group| {
        assert!(group["name"].as_str().is_some());
        group["rules"].as_vec().unwrap()
    });
    rules
        .map(|rule| {
            let text = |value: &Yaml| value.as_str().unwrap_or_else(|| panic!("{rule:?}")).to_owned();
            let waits = text(&rule["for"]);
            let number = waits.trim_end_matches(['s', 'm', 'h', 'd']);
            assert!(
                number.len() + 1 == waits.len() && number.parse::<u32>().is_ok(),
                "{waits}"
            );
            assert!(["warning", "critical"].contains(&rule["labels"]["severity"].as_str().unwrap()));
            assert!(!text(&rule["annotations"]["summary"]).is_empty());
            Alert {
                name: text(&rule["alert"]),
                expression: text(&rule["expr"]),
                runbook: text(&rule["annotations"]["runbook"]),
            }
        })
        .collect()
}

/// Whoever asks for this has to name all that fires.
const FIRING: &str = "ALERTS{alertstate=\"firing\"}";

/// What fires in each scenario of alerts.test.yml: the names of the alerts, minute by minute.
fn scenarios() -> Vec<BTreeMap<u32, BTreeSet<String>>> {
    let documents = YamlLoader::load_from_str(&read("monitoring/alerts.test.yml")).unwrap();
    let [document] = &documents[..] else {
        panic!("one document");
    };
    assert_eq!(document["rule_files"][0].as_str(), Some("alerts.yml"));
    document["tests"].as_vec().unwrap().iter().map(firing).collect()
}

fn firing(scenario: &Yaml) -> BTreeMap<u32, BTreeSet<String>> {
    let checks = scenario["promql_expr_test"].as_vec().unwrap().iter();
    checks
        .filter(|check| check["expr"].as_str() == Some(FIRING))
        .map(|check| {
            let time = check["eval_time"].as_str();
            let minute = time.and_then(|time| time.strip_suffix('m')?.parse::<u32>().ok());
            let minute = minute.unwrap_or_else(|| panic!("a minute in {check:?}"));
            let samples = check["exp_samples"].as_vec().into_iter().flatten();
            let names = samples.map(|sample| {
                let labels = sample["labels"].as_str().unwrap();
                let (_, name) = labels.split_once("alertname=\"").unwrap();
                name.split_once('"').unwrap().0.to_owned()
            });
            (minute, names.collect())
        })
        .collect()
}

fn dashboard_expressions() -> Vec<String> {
    let dashboard: Value = serde_json::from_str(&read("monitoring/dashboard.json")).unwrap();
    let mut expressions = Vec::new();
    let mut ids = BTreeSet::new();
    for panel in dashboard["panels"].as_array().unwrap() {
        assert!(ids.insert(panel["id"].as_u64().unwrap()), "ids are unique: {panel}");
        assert!(
            panel["title"].as_str().is_some_and(|title| !title.is_empty()),
            "{panel}"
        );
        let place = &panel["gridPos"];
        let right = place["x"].as_u64().unwrap() + place["w"].as_u64().unwrap();
        assert!(right <= 24, "a panel leaves the grid: {panel}");
        let targets = panel["targets"].as_array().cloned().unwrap_or_default();
        assert_eq!(targets.is_empty(), panel["type"] == "row", "{panel}");
        for target in targets {
            expressions.push(target["expr"].as_str().unwrap().to_owned());
        }
    }
    expressions
}

/// The functions and words of PromQL that are used here.
const WORDS: [&str; 19] = [
    "and",
    "by",
    "changes",
    "delta",
    "group_left",
    "histogram_quantile",
    "increase",
    "max_over_time",
    "min",
    "on",
    "rate",
    "sum",
    "time",
    "up",
    "le",
    "unless",
    "or",
    "max",
    "ignoring",
];

/// The metrics that `expression` reads, with the labels it selects or groups by.
///
/// # Panics
/// When its brackets don't match, or it holds a word that is neither PromQL's nor a label of Prometheus's own.
fn read_expression(expression: &str, documented: &BTreeMap<String, Documented>) -> BTreeSet<String> {
    let mut open = Vec::new();
    let mut quoted = false;
    let mut words = Vec::new();
    let mut word = String::new();
    let mut outside = String::new();
    for character in expression.chars() {
        if character == '"' {
            quoted = !quoted;
        }
        if quoted || character == '"' {
            continue;
        }
        outside.push(character);
        match character {
            '(' => open.push(')'),
            '{' => open.push('}'),
            '[' => open.push(']'),
            ')' | '}' | ']' => assert_eq!(open.pop(), Some(character), "brackets of {expression}"),
            _ => {}
        }
    }
    assert!(open.is_empty() && !quoted, "brackets of {expression}");
    for character in outside.chars().chain([' ']) {
        if character.is_ascii_alphanumeric() || character == '_' {
            word.push(character);
        } else if !word.is_empty() {
            words.push(std::mem::take(&mut word));
        }
    }
    let mut metrics = BTreeSet::new();
    let mut labels = BTreeSet::from(["job".to_owned(), "instance".to_owned(), "le".to_owned()]);
    for word in words.iter().filter(|word| word.starts_with("lloom_")) {
        let base = ["_bucket", "_sum", "_count"]
            .into_iter()
            .filter_map(|suffix| word.strip_suffix(suffix))
            .find(|base| documented.get(*base).is_some_and(|metric| metric.kind == "histogram"));
        let name = base.unwrap_or(word);
        let Some(found) = documented.get(name) else {
            panic!("{word}, which {expression} reads, is not in METRICS.md");
        };
        assert_eq!(base.is_some(), found.kind == "histogram", "{word} in {expression}");
        labels.extend(found.labels.iter().cloned());
        metrics.insert(name.to_owned());
    }
    for word in words {
        let is_number = word.starts_with(|first: char| first.is_ascii_digit());
        let known = is_number || word.starts_with("lloom_") || WORDS.contains(&word.as_str()) || labels.contains(&word);
        assert!(known, "'{word}' in {expression}");
    }
    metrics
}

#[test]
fn every_alert_has_a_runbook_and_every_runbook_an_alert() {
    let alerts = alerts();
    let names: BTreeSet<_> = alerts.iter().map(|alert| alert.name.clone()).collect();
    assert_eq!(names.len(), alerts.len(), "names are unique");
    for alert in &alerts {
        assert_eq!(alert.runbook, format!("monitoring/runbooks/{}.md", alert.name));
    }
    let runbooks: BTreeSet<_> = fs::read_dir(repository().join("monitoring/runbooks"))
        .unwrap()
        .map(|entry| {
            entry
                .unwrap()
                .path()
                .file_stem()
                .unwrap()
                .to_string_lossy()
                .into_owned()
        })
        .collect();
    assert_eq!(names, runbooks);
    for name in names {
        let text = read(&format!("monitoring/runbooks/{name}.md"));
        assert!(text.starts_with(&format!("# {name}\n")), "{name}");
        for part in ["**How bad.**", "**Look:**", "**Do.**", "**Over when:**"] {
            assert!(text.contains(part), "{name} says {part}");
        }
        // Another runbook that is pointed to is there.
        for word in text.split(|character: char| !character.is_ascii_alphanumeric()) {
            if word.len() > 5 && word.starts_with("Lloom") {
                assert!(runbooks.contains(word), "{name} points to {word}");
            }
        }
    }
}

#[test]
fn every_alert_begins_and_ends_in_a_scenario() {
    let scenarios = scenarios();
    for Alert { name, .. } in alerts() {
        let is_covered = scenarios.iter().any(|scenario| {
            let fires: Vec<_> = scenario.values().map(|firing| firing.contains(&name)).collect();
            let first = fires.iter().position(|fires| *fires);
            let last = fires.iter().rposition(|fires| *fires);
            first.is_some_and(|first| first > 0) && last.is_some_and(|last| last + 1 < fires.len())
        });
        assert!(is_covered, "{name} begins and ends in no scenario of alerts.test.yml");
    }
}

#[test]
fn alerts_and_dashboard_read_only_metrics_that_exist() {
    let documented = documented_metrics();
    for alert in alerts() {
        let read = read_expression(&alert.expression, &documented);
        assert!(
            !read.is_empty() || alert.expression.starts_with("up{"),
            "{}",
            alert.expression
        );
    }
    let mut shown = BTreeSet::new();
    for expression in dashboard_expressions() {
        // Grafana puts the nodes chosen in place of its variable.
        shown.extend(read_expression(&expression.replace("$instance", "x"), &documented));
    }
    let hidden: Vec<_> = documented.keys().filter(|name| !shown.contains(*name)).collect();
    assert!(hidden.is_empty(), "the dashboard shows nothing of {hidden:?}");
}

#[test]
fn documents_name_commands_that_exist() {
    let home = Home::new();
    let mut checked = BTreeSet::new();
    let mut files = vec!["METRICS.md".to_owned(), "README.md".to_owned()];
    files.extend(alerts().into_iter().map(|alert| alert.runbook));
    for file in files {
        let text = read(&file);
        let quoted = text.split('`').filter(|quoted| quoted.starts_with("lloomctl "));
        let lines = text.lines().filter(|line| line.starts_with("lloomctl "));
        for command in quoted.chain(lines) {
            let words = words(command);
            if !checked.insert(words.join(" ")) {
                continue;
            }
            // With `--help` at the end every word before it has to be understood, and nothing is done.
            let arguments: Vec<_> = words
                .iter()
                .map(|word| example(word).to_owned())
                .chain(["--help".to_owned()])
                .collect();
            let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
            let ended = home.run(&arguments);
            assert_eq!(ended.code, 0, "{file} names `{command}`: {ended:?}");
            let is_name =
                |word: &&str| word.starts_with(|first: char| first.is_ascii_lowercase()) && !word.contains(['/', '.']);
            let named = words.iter().map(String::as_str).take_while(is_name);
            let usage = std::iter::once("lloomctl").chain(named).collect::<Vec<_>>().join(" ");
            assert!(
                ended.stdout.contains(&format!("Usage: {usage}")),
                "{file}: {usage} in {ended:?}"
            );
            for option in words.iter().filter(|word| word.starts_with("--")) {
                assert!(ended.stdout.contains(option), "{file}: {option} of `{command}`");
            }
        }
    }
    assert!(checked.len() > 5, "{checked:?}");
}

/// What a shell makes of a command, without the program's name and what is said behind it.
fn words(command: &str) -> Vec<String> {
    let mut words = Vec::new();
    let command = command.split(" #").next().unwrap_or_default();
    for (index, part) in command.replace("$(date +%F)", "today").split('"').enumerate() {
        // In quotes.
        if index % 2 == 1 {
            words.push(part.to_owned());
        } else {
            words.extend(part.split_whitespace().map(str::to_owned));
        }
    }
    words.retain(|word| word != "--help");
    words.split_off(1)
}

/// A value in place of one that a reader has to fill in.
fn example(word: &str) -> &str {
    if word.starts_with('<') {
        "http://127.0.0.1:1"
    } else if word == "0x…" {
        "0x00000000000000000000000000000000000000ff"
    } else {
        word
    }
}

#[test]
fn an_expression_with_a_mistake_is_found() {
    let documented = documented_metrics();
    for wrong in [
        "lloom_no_such_metric > 0",
        "sum by (job (lloom_ready)",
        "lloom_store_commit_duration_seconds > 1",
        "rat(lloom_accepted_total[5m])",
        "lloom_accepted_total{dokument=\"voucher\"}",
    ] {
        let found = std::panic::catch_unwind(|| read_expression(wrong, &documented));
        assert!(found.is_err(), "{wrong}");
    }
}
