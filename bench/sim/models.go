package sim

import (
	"time"

	"github.com/ekiden-mta/ekiden/mail"
	"github.com/ekiden-mta/ekiden/mail/smtp"
	"github.com/ekiden-mta/ekiden/policy/shaping"
)

// Model is a receiver with a hidden quota: more than it bears in a minute is refused for now, and a tenth more than that
// blocks the source for a while. How it says so is what its kind is known for.
type Model struct {
	Name     string
	Receiver string         // of the rules about replies
	Limits   shaping.Limits // what the sender starts with
	Least    float64        // range of the quota, messages a minute from one source
	Most     float64
	Latency  time.Duration // of a message
	Conns    int           // hidden: connections from one source; 0 = any number
	PerConn  int           // hidden: messages on one connection, then it closes without a word; 0 = any number
	Grey     float64       // part of the messages that is greylisted
	Over     answer        // above the quota
	Crowded  answer        // above Conns
	Shut     answer        // while it blocks …
	ShutFor  time.Duration // … that long
}

// answer is a reply, or a silence.
type answer struct {
	stage  mail.Stage
	reply  smtp.Reply
	silent mail.Silence
}

func (a answer) outcome() mail.Outcome {
	return mail.Outcome{Result: mail.Deferred, Stage: a.stage, Reply: a.reply, Detail: a.silent.String()}
}

func says(stage mail.Stage, code int, enhanced smtp.EnhancedCode, text string) answer {
	return answer{stage: stage, reply: smtp.Reply{Code: code, Enhanced: enhanced, Text: text}}
}

func code(subject, detail uint16) smtp.EnhancedCode {
	return smtp.EnhancedCode{Class: 4, Subject: subject, Detail: detail}
}

// Models are the receivers of the report.
func Models() []Model {
	carrier := shaping.Limits{Start: 1, Connections: 10, PerConnection: 50, Interval: 100 * time.Millisecond, BlockPause: time.Minute, TopOfHour: time.Minute}
	named := func(l shaping.Limits, name string) shaping.Limits {
		l.Receiver = name
		return l
	}
	busy := says(mail.StageMail, 450, code(3, 2), "rate limit exceeded")
	return []Model{
		{Name: "docomo", Receiver: "docomo", Limits: named(carrier, "docomo"), Least: 120, Most: 900, Latency: 300 * time.Millisecond, Conns: 8,
			Over: busy, Crowded: says(mail.StageGreeting, 421, code(3, 2), "too many connections"),
			Shut: answer{stage: mail.StageConnect, silent: mail.Refused}, ShutFor: 15 * time.Minute},
		{Name: "au", Receiver: "au", Limits: named(carrier, "au"), Least: 90, Most: 600, Latency: 400 * time.Millisecond, Conns: 6,
			Over: says(mail.StageMail, 421, code(3, 2), "rate limit exceeded"), Crowded: says(mail.StageGreeting, 421, code(3, 2), "too many connections"),
			Shut: answer{stage: mail.StageMail, silent: mail.Reset}, ShutFor: 15 * time.Minute},
		{Name: "softbank", Receiver: "softbank", Limits: named(carrier, "softbank"), Least: 90, Most: 600, Latency: 500 * time.Millisecond,
			Over: busy, Shut: says(mail.StageGreeting, 421, code(7, 0), "service not available"), ShutFor: 30 * time.Minute},
		{Name: "google", Receiver: "google", Limits: shaping.Limits{Receiver: "google", Connections: 5, PerConnection: 50, Start: 1, BlockPause: time.Minute},
			Least: 150, Most: 900, Latency: 250 * time.Millisecond,
			Over: says(mail.StageMail, 421, code(7, 0), "Try again later, closing connection"),
			Shut: says(mail.StageDot, 421, code(7, 28), "unusual rate of email originating from your IP address"), ShutFor: 10 * time.Minute},
		{Name: "yahoo", Receiver: "yahoo", Limits: shaping.Limits{Receiver: "yahoo", Connections: 5, PerConnection: 20, Start: 1, BlockPause: time.Minute},
			Least: 150, Most: 900, Latency: 250 * time.Millisecond, PerConn: 12, Over: says(mail.StageMail, 421, code(3, 2), "rate limit exceeded"),
			Shut: says(mail.StageMail, 421, code(7, 0), "[TSS04] temporarily deferred due to unexpected volume or user complaints"), ShutFor: time.Hour},
		{Name: "outlook", Receiver: "outlook", Limits: shaping.Limits{Receiver: "outlook", Connections: 5, PerConnection: 50, Start: 1, BlockPause: time.Minute},
			Least: 150, Most: 900, Latency: 250 * time.Millisecond, Over: says(mail.StageMail, 421, smtp.EnhancedCode{}, "RP-001 rate"),
			Shut: says(mail.StageMail, 451, code(7, 650), "temporarily rate limited due to IP reputation (S775)"), ShutFor: 30 * time.Minute},
		{Name: "small", Receiver: "mx:mx.small.example", Limits: shaping.Limits{Receiver: "mx:mx.small.example", Connections: 10, PerConnection: 100,
			Rate: 100, Start: 1, ConnectionRate: 1.6667, BlockPause: time.Minute}, Least: 60, Most: 300, Latency: 500 * time.Millisecond, Conns: 4, Grey: 0.1,
			Over: busy, Crowded: says(mail.StageGreeting, 421, code(3, 2), "too many connections"),
			Shut: says(mail.StageGreeting, 554, smtp.EnhancedCode{Class: 5, Subject: 7, Detail: 1}, "go away"), ShutFor: 20 * time.Minute},
	}
}
