// Package house holds the rules of the house as data and checks the tree against them: who may import whom, what is
// fenced in where, what no file may do. Its test walks the whole module; a rule without a reason beside it is no rule.
//
// It reads source text only. It must never build or run what it reads, never be imported by another room, and never be
// made to pass by loosening a row: a room that breaks a rule is mended, or the rule is changed for everybody, with
// its reason.
//
// Read rules.go first: all that is particular to this house stands there.
package house
