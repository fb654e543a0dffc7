package sim

import (
	"time"

	"github.com/ekiden-mta/ekiden/mail"
	"github.com/ekiden-mta/ekiden/mail/smtp"
	"github.com/ekiden-mta/ekiden/policy/shaping"
)

// Model is a receiver that hides what it bears: messages a minute, a second and an hour from one source, all of which
// change with time. More than that is refused for now, and a tenth more than that blocks the source for a while. How it
// says so is what its kind is known for.
type Model struct {
	Name     string
	Receiver string         // of the rules about replies
	Limits   shaping.Limits // what the sender starts with
	Sources  int            // addresses that send to it

	Least  float64    // range of the minute's quota from one source …
	Most   float64    // …
	Burst  [2]float64 // range of the second's, as a multiple of the minute's 60th part; 0 = none
	Hour   [2]float64 // range of the hour's, as a multiple of 60 minutes'; 0 = none
	Scoped float64    // quota a minute of the mail of one sender domain, as a multiple of a source's; 0 = none

	Latency time.Duration // of a message
	Conns   int           // hidden: connections from one source; 0 = any number
	PerConn int           // hidden: messages on one connection, then it closes without a word; 0 = any number
	Grey    float64       // part of the messages that is greylisted when first seen
	Quiet   bool          // the operator has quiet hours for it
	Kinds   bool          // cleaning mail and mail of speed filters goes as well, and to two sets of hosts

	Over    answer        // above the minute's or the hour's quota
	Fast    answer        // above the second's
	Domain  answer        // above a sender domain's
	Crowded answer        // above Conns
	Shut    answer        // while it blocks …
	ShutFor time.Duration // … that long
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

// tooFast and tooMany are what several of them say.
func tooFast(code3 int) answer {
	return says(mail.StageMail, code3, code(3, 2), "rate limit exceeded")
}

func tooMany() answer { return says(mail.StageGreeting, 421, code(3, 2), "too many connections") }

// Models are the receivers of the report. The figures are of no real receiver: those publish none. They are such that a
// week of them is played in a minute.
func Models() []Model { return append(carriers(), providers()...) }

func carriers() []Model {
	limits := func(name string) shaping.Limits {
		return shaping.Limits{Receiver: name, Start: 1, Connections: 10, PerConnection: 50, Interval: 100 * time.Millisecond,
			BlockPause: time.Minute, TopOfHour: time.Minute}
	}
	return []Model{
		{Name: "docomo", Receiver: "docomo", Limits: limits("docomo"), Sources: 3, Least: 40, Most: 180, Burst: [2]float64{2, 4},
			Latency: 300 * time.Millisecond, Conns: 8, Over: tooFast(450), Fast: tooFast(450), Crowded: tooMany(),
			Shut: answer{stage: mail.StageConnect, silent: mail.Refused}, ShutFor: 15 * time.Minute},
		{Name: "au", Receiver: "au", Limits: limits("au"), Sources: 3, Least: 40, Most: 160, Latency: 400 * time.Millisecond, Conns: 6,
			Over: tooFast(421), Crowded: tooMany(),
			Shut: answer{stage: mail.StageMail, silent: mail.Reset}, ShutFor: 15 * time.Minute},
		{Name: "softbank", Receiver: "softbank", Limits: limits("softbank"), Sources: 2, Least: 40, Most: 160, Hour: [2]float64{0.6, 1.4},
			Latency: 500 * time.Millisecond, Quiet: true, Over: tooFast(450),
			Shut: says(mail.StageGreeting, 421, code(7, 0), "service not available"), ShutFor: 30 * time.Minute},
	}
}

func providers() []Model {
	limits := func(name string, per int) shaping.Limits {
		return shaping.Limits{Receiver: name, Connections: 5, PerConnection: per, Start: 1, BlockPause: time.Minute}
	}
	small := limits("mx:mx.small.example", 100)
	small.Connections, small.Rate, small.ConnectionRate = 10, 100, 1.6667
	return []Model{
		{Name: "google", Receiver: "google", Limits: limits("google", 50), Sources: 3, Least: 60, Most: 200, Scoped: 0.9,
			Latency: 250 * time.Millisecond, Over: says(mail.StageMail, 421, code(7, 0), "Try again later, closing connection"),
			Domain: says(mail.StageDot, 421, code(7, 28), "unusual rate of mail originating from your DKIM domain"),
			Shut:   says(mail.StageDot, 421, code(7, 28), "unusual rate of email originating from your IP address"), ShutFor: 10 * time.Minute},
		{Name: "yahoo", Receiver: "yahoo", Limits: limits("yahoo", 20), Sources: 2, Least: 60, Most: 200, Hour: [2]float64{0.7, 1.5},
			Latency: 250 * time.Millisecond, PerConn: 12, Over: tooFast(421),
			Shut:    says(mail.StageMail, 421, code(7, 0), "[TSS04] temporarily deferred due to unexpected volume or user complaints"),
			ShutFor: time.Hour},
		{Name: "outlook", Receiver: "outlook", Limits: limits("outlook", 50), Sources: 3, Least: 60, Most: 200, Burst: [2]float64{2, 3},
			Latency: 250 * time.Millisecond, Over: says(mail.StageMail, 421, smtp.EnhancedCode{}, "RP-001 rate"),
			Fast:    says(mail.StageMail, 421, smtp.EnhancedCode{}, "RP-001 rate"),
			Shut:    says(mail.StageMail, 451, code(7, 650), "temporarily rate limited due to IP reputation (S775)"),
			ShutFor: 30 * time.Minute},
		{Name: "small", Receiver: "mx:mx.small.example", Limits: small, Sources: 2, Least: 30, Most: 90, Latency: 500 * time.Millisecond,
			Conns: 4, Grey: 0.1, Over: tooFast(450), Crowded: tooMany(),
			Shut:    says(mail.StageGreeting, 554, smtp.EnhancedCode{Class: 5, Subject: 7, Detail: 1}, "go away"),
			ShutFor: 20 * time.Minute},
	}
}
