package main

import "errors"

// errLater is what commands answer whose parts are not built yet.
var errLater = errors.New("not in this release")

// later is a command of a later release: its place on the command line is fixed, so that scripts learn by the exit
// code (3, refused) and not by a guess.
type later struct{}

// Run refuses.
func (later) Run() error { return refused(errLater) }

// laterCommands are the commands whose parts come with later releases.
type laterCommands struct {
	Apply       applyCmd        `cmd:"" group:"In later releases:" help:"Apply a settings file."`
	Suppress    suppressCmds    `cmd:"" group:"In later releases:" help:"Suppression lists."`
	Reservation reservationCmds `cmd:"" group:"In later releases:" help:"Reserved deliveries."`
	Probe       probeCmd        `cmd:"" group:"In later releases:" help:"Check whether addresses exist."`
	Cluster     clusterCmds     `cmd:"" group:"In later releases:" help:"Members of the cluster."`
	Account     accountCmds     `cmd:"" group:"In later releases:" help:"Accounts of the console."`
	Token       tokenCmds       `cmd:"" group:"In later releases:" help:"Tokens of the API."`
	DKIM        dkimCmds        `cmd:"" group:"In later releases:" name:"dkim" help:"DKIM keys."`
}

type applyCmd struct {
	File   string `short:"f" help:"Settings file." placeholder:"FILE" required:""`
	DryRun bool   `help:"Only print the difference."`
}

// Run refuses, and says what takes its place.
func (applyCmd) Run() error {
	return refused(errors.New(`not in this release: a node reads the file under "settings:" of its node file at start and at SIGHUP`))
}

func (applyCmd) Help() string { return "Example: ekiden apply -f settings.yaml --dry-run" }

type suppressCmds struct {
	List   suppressCmd `cmd:"" help:"List suppressed addresses."`
	Add    suppressCmd `cmd:"" help:"Suppress addresses."`
	Remove suppressCmd `cmd:"" help:"Stop suppressing addresses."`
	Import suppressCmd `cmd:"" help:"Suppress the addresses of a file."`
	Reset  suppressCmd `cmd:"" help:"Forget the errors of addresses."`
}

type suppressCmd struct {
	Address []string `arg:"" optional:"" help:"Addresses."`
	Tenant  string   `help:"Tenant." placeholder:"NAME"`
	List    string   `help:"blackbox, blocklist or unsubscribe." placeholder:"LIST"`
	File    string   `short:"f" help:"File of addresses." placeholder:"FILE"`
	later   `kong:"-"`
}

func (suppressCmd) Help() string { return "Example: ekiden suppress add user@example.jp" }

type reservationCmds struct {
	List   reservationListCmd   `cmd:"" help:"List reservations."`
	Cancel reservationCancelCmd `cmd:"" help:"Cancel a reservation."`
}

type reservationListCmd struct {
	later `kong:"-"`
}

func (reservationListCmd) Help() string { return "Example: ekiden reservation list" }

type reservationCancelCmd struct {
	ID    string `arg:"" help:"Reservation."`
	later `kong:"-"`
}

func (reservationCancelCmd) Help() string { return "Example: ekiden reservation cancel 7" }

type probeCmd struct {
	File  string `short:"f" help:"File of addresses." placeholder:"FILE" required:""`
	From  string `help:"Sender to ask as." placeholder:"ADDRESS"`
	later `kong:"-"`
}

func (probeCmd) Help() string {
	return "Example: ekiden probe -f addresses.txt --from check@example.jp"
}

type clusterCmds struct {
	Members  clusterCmd     `cmd:"" help:"List the members."`
	Drain    clusterCmd     `cmd:"" help:"Hand this member's work over."`
	Leave    clusterCmd     `cmd:"" help:"Leave the cluster."`
	Recover  clusterCmd     `cmd:"" help:"Recover a cluster that lost its majority."`
	Takeover takeoverCmd    `cmd:"" help:"Take over the queue of a lost member."`
	Init     clusterInitCmd `cmd:"" help:"Write a CA and a certificate per member."`
}

type clusterCmd struct {
	later `kong:"-"`
}

func (clusterCmd) Help() string { return "Example: ekiden cluster members" }

type takeoverCmd struct {
	Node  string `arg:"" help:"Lost member."`
	Force bool   `help:"It is certain that the member is dead."`
	later `kong:"-"`
}

func (takeoverCmd) Help() string { return "Example: ekiden cluster takeover n2 --force" }

type accountCmds struct {
	List   accountListCmd `cmd:"" help:"List accounts."`
	Add    accountCmd     `cmd:"" help:"Add an account; the password is read from standard input."`
	Passwd accountCmd     `cmd:"" help:"Change a password."`
	Remove accountCmd     `cmd:"" help:"Remove an account."`
}

type accountListCmd struct {
	later `kong:"-"`
}

func (accountListCmd) Help() string { return "Example: ekiden account list" }

type accountCmd struct {
	Name   string `arg:"" help:"Account."`
	Role   string `help:"administrator, viewer, accountant or group." placeholder:"ROLE"`
	Tenant string `help:"Tenant." placeholder:"NAME"`
	TOTP   bool   `name:"totp" help:"Ask for a second factor."`
	later  `kong:"-"`
}

func (accountCmd) Help() string { return "Example: ekiden account add ann --role viewer" }

type tokenCmds struct {
	Create tokenCmd     `cmd:"" help:"Make a token."`
	List   tokenListCmd `cmd:"" help:"List tokens."`
	Revoke tokenCmd     `cmd:"" help:"Revoke a token."`
}

type tokenListCmd struct {
	later `kong:"-"`
}

func (tokenListCmd) Help() string { return "Example: ekiden token list" }

type tokenCmd struct {
	Name   string `arg:"" help:"Token."`
	Role   string `help:"Role." placeholder:"ROLE"`
	Tenant string `help:"Tenant." placeholder:"NAME"`
	later  `kong:"-"`
}

func (tokenCmd) Help() string { return "Example: ekiden token create monitoring --role viewer" }

type dkimCmds struct {
	Create dkimCmd `cmd:"" help:"Make a key for a domain."`
	List   dkimCmd `cmd:"" help:"List the keys of a domain."`
}

type dkimCmd struct {
	Domain string `arg:"" help:"Domain."`
	later  `kong:"-"`
}

func (dkimCmd) Help() string { return "Example: ekiden dkim create shop.example" }
