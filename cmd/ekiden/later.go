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
	Account accountCmds `cmd:"" group:"In later releases:" help:"Accounts of the console."`
	DKIM    dkimCmds    `cmd:"" group:"In later releases:" name:"dkim" help:"DKIM keys."`
}

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

type dkimCmds struct {
	Create dkimCmd `cmd:"" help:"Make a key for a domain."`
	List   dkimCmd `cmd:"" help:"List the keys of a domain."`
}

type dkimCmd struct {
	Domain string `arg:"" help:"Domain."`
	later  `kong:"-"`
}

func (dkimCmd) Help() string { return "Example: ekiden dkim create shop.example" }
