//! The shell at a terminal: a pseudo-terminal, of which the tests read what a person would see. They wait for what they expect
//! to see, however long it takes.

use std::io::{self, Write as _};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use expectrl::Session;
use expectrl::process::unix::WaitStatus;
use expectrl::session::OsSession;

use super::{Store, lines};

/// Nothing that is waited for takes so long.
const PATIENCE: Duration = Duration::from_secs(120);

const CTRL_C: &str = "\x03";
const CTRL_D: &str = "\x04";
const UP: &str = "\x1b[A";

struct Terminal {
    session: OsSession,
    /// What has come and was not looked for yet.
    screen: String,
}

impl Terminal {
    fn new(mut command: Command) -> Self {
        command.env("TERM", "xterm");
        Self { session: Session::spawn(command).unwrap(), screen: String::new() }
    }

    fn keys(&mut self, keys: &str) {
        self.session.write_all(keys.as_bytes()).unwrap();
        self.session.flush().unwrap();
    }

    /// Reads up to `text`, and no further than a little, and returns what came before it.
    #[track_caller]
    fn sees(&mut self, text: &str) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(at) = self.screen.find(text) {
                let rest = self.screen.split_off(at + text.len());
                let mut before = std::mem::replace(&mut self.screen, rest);
                before.truncate(at);
                return before;
            }
            let mut bytes = [0; 256];
            match self.session.try_read(&mut bytes) {
                Ok(0) => panic!("the end, and not `{text}`, after {:?}", self.screen),
                Ok(length) => self.screen.push_str(&String::from_utf8_lossy(&bytes[..length])),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => thread::sleep(Duration::from_millis(1)),
                // What Linux says when the other end is closed.
                Err(error) => panic!("{error}, and not `{text}`, after {:?}", self.screen),
            }
            assert!(Instant::now() < deadline, "no `{text}` in {:?}", self.screen);
        }
    }

    /// Types a command, and sees an answer and the next prompt.
    #[track_caller]
    fn asks(&mut self, line: &str, answer: &str) {
        self.keys(&format!("{line}\r"));
        self.sees("\r\n");
        self.sees(answer);
        self.sees("> ");
    }

    #[track_caller]
    fn ends(self, code: i32) {
        let status = self.session.get_process().wait().unwrap();
        assert!(matches!(status, WaitStatus::Exited(_, found) if found == code), "{status:?}");
    }

    #[track_caller]
    fn leaves(mut self) {
        self.keys(CTRL_D);
        self.sees("Goodbye!");
        self.ends(0);
    }
}

impl Store {
    /// The command on its database, with a home of its own.
    fn at_terminal(&self, arguments: &[&str]) -> Terminal {
        let mut command = Command::new(env!("CARGO_BIN_EXE_maplsm"));
        command.arg("--db").arg(self.database()).args(arguments);
        command.env("XDG_STATE_HOME", self.beside("state"));
        Terminal::new(command)
    }

    /// The shell, at its first prompt.
    fn converse(&self) -> Terminal {
        let mut terminal = self.at_terminal(&[]);
        terminal.sees("Type HELP for available commands.");
        terminal.sees("maplsm> ");
        terminal
    }
}

#[test]
fn a_new_database_is_announced() {
    let store = Store::new();
    let mut terminal = store.at_terminal(&[]);
    terminal.sees("There was no database: this is a new one.");
    terminal.sees("maplsm> ");
    terminal.asks("SET k the-value", "OK\r\n");
    terminal.leaves();
    let mut terminal = store.at_terminal(&[]);
    assert!(!terminal.sees("maplsm> ").contains("new one"));
    terminal.asks("GET k", "the-value\r\n");
    terminal.asks("frob", "Error: Unknown command: frob");
    terminal.keys("QUIT\r");
    terminal.sees("Goodbye!");
    terminal.ends(0);

    let store = Store::new();
    std::fs::create_dir(store.database()).unwrap();
    std::fs::write(store.database().join("notes"), "mine").unwrap();
    let mut terminal = store.at_terminal(&[]);
    terminal.sees("--force makes one beside them");
    terminal.ends(1);
}

#[test]
fn each_line_of_a_paste_is_a_command() {
    let store = Store::new();
    let mut terminal = store.converse();
    terminal.keys("\x1b[200~SET a 1\nSET b two words\r\n\nfrob\nINCR a 41\n\x1b[201~");
    terminal.keys("\r");
    terminal.sees("OK\r\nOK\r\n");
    terminal.sees("Error: Unknown command: frob.");
    terminal.sees("42\r\n");
    terminal.sees("maplsm> ");
    // The lines are remembered one by one.
    terminal.keys(UP);
    terminal.sees("INCR a 41");
    terminal.keys("\r");
    terminal.sees("83\r\n");
    terminal.sees("maplsm> ");
    terminal.leaves();
    store.run(["scan"]).prints("a\t83\nb\ttwo words\n");
}

#[test]
fn ctrl_c_stops_a_scan_and_nothing_else() {
    let store = Store::with(lines(200_000, |number| format!("key{number:06}\tvalue\n")));
    let mut terminal = store.converse();
    // Nobody reads on, so that the scan waits for the terminal long before its end.
    terminal.keys("SCAN LIMIT ALL\r");
    terminal.sees("key000000\t");
    terminal.keys(CTRL_C);
    assert!(!terminal.sees("interrupted\r\n").contains("key199999"));
    terminal.sees("maplsm> ");
    terminal.asks("COUNT key000000 key000005", "5\r\n");
    terminal.asks("GET key199999", "value\r\n");
    // At the prompt it gives up the line.
    terminal.keys(&format!("SET key000000 {CTRL_C}"));
    terminal.sees("Type EXIT or press Ctrl-D to leave.");
    terminal.sees("maplsm> ");
    terminal.asks("GET key000000", "value\r\n");
    terminal.leaves();
}

#[test]
fn what_is_long_is_cut_short_and_says_how_it_goes_on() {
    let store = Store::with(lines(250, |number| format!("key {number:03}\tvalue\n")));
    let mut terminal = store.converse();
    terminal.keys("SCAN\r");
    let shown = terminal.sees("(100 are shown; SCAN \"key 100\" goes on, LIMIT n or LIMIT ALL shows more)");
    assert!(shown.contains("key 099\tvalue") && !shown.contains("key 100\tvalue"), "{shown}");
    terminal.sees("maplsm> ");
    terminal.asks("KEYS 'key 100' 'key 220'", "KEYS \"key 200\" \"key 220\" goes on");
    terminal.keys("SCAN LIMIT ALL\r");
    terminal.sees("key 249\tvalue\r\n");
    terminal.sees("maplsm> ");
    terminal.leaves();
}

#[test]
fn tab_completes_and_hints_show_what_a_command_takes() {
    let store = Store::new();
    store.shell("SET k default-value\nCREATE cities\nUSE cities\nSET k cities-value\n").success();
    let mut terminal = store.converse();
    terminal.keys("us\t");
    terminal.sees("use ");
    terminal.sees("<keyspace>");
    terminal.keys("ci\t");
    terminal.sees("cities");
    terminal.keys("\r");
    terminal.sees("OK\r\n");
    terminal.sees("maplsm cities> ");
    terminal.asks("GET k", "cities-value\r\n");
    terminal.keys("HELP KEYSP\t\r");
    terminal.sees("List the keyspaces");
    terminal.sees("maplsm cities> ");
    terminal.leaves();
}

#[test]
fn history_is_kept_from_one_shell_to_the_next() {
    let store = Store::new();
    let mut terminal = store.converse();
    terminal.asks("INCR visits", "1\r\n");
    terminal.leaves();
    let mut terminal = store.converse();
    terminal.keys(UP);
    terminal.sees("INCR visits");
    terminal.keys("\r");
    terminal.sees("2\r\n");
    terminal.sees("maplsm> ");
    terminal.leaves();
}

#[test]
fn the_screen_is_cleared_and_the_memtable_listed() {
    let store = Store::new();
    let mut terminal = store.converse();
    terminal.asks("SET k v", "OK\r\n");
    terminal.asks("KEYS MEMTABLE", "  • k\r\n");
    terminal.keys("CLEAR\r");
    terminal.sees("\x1b[2J\x1b[H");
    terminal.sees("maplsm> ");
    terminal.leaves();
}
