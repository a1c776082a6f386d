//! The transition table, printed in full: read the difference before you rewrite it.

use throng_gateway_core::{Input, Phase, Step, react};

const TABLE: &str = "
               | Upgrade               | Hello                 | Auth                  | Verifying             | Open                  | Closing
Hello          | close PROTOCOL        | → Auth                | close PROTOCOL        | close PROTOCOL        | close PROTOCOL        | skip
Auth           | close PROTOCOL        | close PROTOCOL        | → Verifying           | close ALREADY_AUTHENTICATED | close ALREADY_AUTHENTICATED | skip
Operation      | close AUTH_REQUIRED   | close AUTH_REQUIRED   | close AUTH_REQUIRED   | close AUTH_REQUIRED   | do                    | skip
Liveness       | close AUTH_REQUIRED   | close AUTH_REQUIRED   | close AUTH_REQUIRED   | close AUTH_REQUIRED   | do                    | skip
Close          | close NORMAL          | close NORMAL          | close NORMAL          | close NORMAL          | close NORMAL          | skip
WrongSide      | close PROTOCOL        | close PROTOCOL        | close PROTOCOL        | close PROTOCOL        | close PROTOCOL        | skip
Unknown        | skip                  | skip                  | skip                  | skip                  | skip                  | skip
UnknownRequest | close AUTH_REQUIRED   | close AUTH_REQUIRED   | close AUTH_REQUIRED   | close AUTH_REQUIRED   | refuse UNSUPPORTED    | skip
Verified       | skip                  | skip                  | skip                  | → Open                | skip                  | skip
Deadline       | close HANDSHAKE_TIMEOUT | close HANDSHAKE_TIMEOUT | close HANDSHAKE_TIMEOUT | close HANDSHAKE_TIMEOUT | close TOKEN_EXPIRED   | cut
Silence        | skip                  | skip                  | skip                  | skip                  | close HEARTBEAT_TIMEOUT | skip
Drain          | close GOING_AWAY      | close GOING_AWAY      | close GOING_AWAY      | close GOING_AWAY      | do                    | skip
";

#[test]
fn every_state_and_event() {
    let line = |head: &str, cells: Vec<String>| {
        let cells: String = cells.iter().map(|cell| format!(" | {cell:<21}")).collect();
        format!("{}\n", format!("{head:<14}{cells}").trim_end())
    };
    let mut table = "\n".to_owned() + &line("", Phase::ALL.map(|phase| format!("{phase:?}")).to_vec());
    for input in Input::ALL {
        let cells = Phase::ALL.map(|phase| match react(phase, input) {
            Step::Go(phase) => format!("→ {phase:?}"),
            Step::Stay => "do".to_owned(),
            Step::Skip => "skip".to_owned(),
            Step::Refuse(code) => format!("refuse {code}"),
            Step::Close(code) => format!("close {code}"),
            Step::Cut => "cut".to_owned(),
        });
        table += &line(&format!("{input:?}"), cells.to_vec());
    }
    assert_eq!(table, TABLE, "{table}");
}
