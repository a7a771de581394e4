//! How a vault comes to be: by several processes at once, and killed at every point.
mod common;
use common::*;
use vault::*;

/// Lets that many processes begin at once, each with a write of its own, in a place without a vault.
fn at_once(test: &str, processes: usize) {
    let home = Home::new();
    let start = home.path().join("start");
    let mut children: Vec<_> = (0..processes)
        .map(|i| {
            let mut command = again(test, &i.to_string(), home.path());
            command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
            command.spawn().unwrap()
        })
        .collect();
    std::thread::sleep(std::time::Duration::from_millis(5));
    std::fs::write(&start, "").unwrap();
    for child in children.drain(..) {
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    let vault = home.vault();
    for i in 0..processes {
        assert_eq!(get(&vault, &format!("of process {i}")), format!("value {i}"));
    }
    assert_eq!(vault.verify().unwrap(), processes as u64);
    assert_eq!(names(&home.data()), ["vault.db"]);
    let config = names(&home.config());
    assert_eq!(config.len(), 3, "{config:?}");
}

fn at_once_child(role: &str, home: &std::path::Path) {
    let vault = Vault::under(home);
    while !home.join("start").exists() {
        std::thread::yield_now();
    }
    match role.parse::<usize>().unwrap() % 4 {
        // Reads while it comes to be: nothing yet, or what is there, never an error.
        3 => drop(vault.list().unwrap()),
        _ => {}
    }
    set(&vault, &format!("of process {role}"), &format!("value {role}"));
}

#[test]
fn two_processes_at_once() {
    if let Some((role, home)) = role() {
        return at_once_child(&role, &home);
    }
    for _ in 0..10 {
        at_once("two_processes_at_once", 2);
    }
}

#[test]
fn eight_processes_at_once() {
    if let Some((role, home)) = role() {
        return at_once_child(&role, &home);
    }
    for _ in 0..10 {
        at_once("eight_processes_at_once", 8);
    }
}
