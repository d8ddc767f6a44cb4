package cli

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"passbook/internal/config"
)

// The groups of commands in the help of the root.
const (
	groupServe = "serve"
	groupBooks = "books"
	groupAdmin = "admin"
)

// reads says which settings a command and its subcommands read, for their help. Without it they read all.
const reads = "settings"

const (
	readsClient   = "client"   // where the server is, and the key
	readsDatabase = "database" // the database itself
	readsKeys     = "keys"     // the database of the subjects' keys
	readsDemo     = "demo"
	readsRelay    = "relay"
	readsNone     = "none"
)

// reading notes which settings commands read.
func reading(what string, commands ...*cobra.Command) []*cobra.Command {
	for _, cmd := range commands {
		if cmd.Annotations == nil {
			cmd.Annotations = make(map[string]string)
		}
		cmd.Annotations[reads] = what
	}
	return commands
}

// grouped puts commands into a group of the root's help.
func grouped(group string, commands ...*cobra.Command) []*cobra.Command {
	for _, cmd := range commands {
		cmd.GroupID = group
	}
	return commands
}

// focusHelp makes the help of each command show only the settings that it reads.
func focusHelp(root *cobra.Command, settings *config.Settings) {
	shown := map[string][]string{
		readsClient: settings.ClientFlags(), readsDatabase: settings.DatabaseFlags(), readsDemo: settings.DemoFlags(),
		readsRelay: settings.RelayFlags(), readsKeys: settings.KeysFlags(), readsNone: nil,
	}
	help := root.HelpFunc()
	root.SetHelpFunc(func(cmd *cobra.Command, args []string) {
		what, known := "", false
		for at := cmd; at != nil && !known; at = at.Parent() {
			what, known = at.Annotations[reads]
		}
		if known {
			root.PersistentFlags().VisitAll(func(f *pflag.Flag) { f.Hidden = !slices.Contains(shown[what], f.Name) })
		}
		help(cmd, args)
	})
	root.SetUsageTemplate(strings.Replace(root.UsageTemplate(), "Global Flags:", "Settings:", 1))
}

// noArgs refuses arguments, and suggests the subcommands that one may mean.
func noArgs(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	return config.Usage(fmt.Errorf("unknown command %q for %q%s", args[0], cmd.CommandPath(), suggestion(cmd, args[0])))
}

// suggestion names the subcommands whose names resemble a word.
func suggestion(cmd *cobra.Command, word string) string {
	const typos = 2
	cmd.SuggestionsMinimumDistance = typos
	meant := cmd.SuggestionsFor(word)
	if len(meant) == 0 {
		return ""
	}
	for i, name := range meant {
		meant[i] = fmt.Sprintf("%q", cmd.CommandPath()+" "+name)
	}
	return "\nDid you mean " + strings.Join(meant, " or ") + "?"
}

// choice is a flag that takes one of a few values, or none.
type choice struct {
	value string
	of    []string
}

// String implements pflag.Value.
func (c *choice) String() string { return c.value }

// Set implements pflag.Value.
func (c *choice) Set(text string) error {
	if !slices.Contains(c.of, text) {
		last := len(c.of) - 1
		return errors.New("there are only " + strings.Join(c.of[:last], ", ") + " or " + c.of[last])
	}
	c.value = text
	return nil
}

// Type implements pflag.Value.
func (c *choice) Type() string { return "string" }

// choiceFlag adds a flag that takes one of a few values, which shells complete.
func choiceFlag(cmd *cobra.Command, name, usage string, of ...string) *choice {
	c := &choice{of: of}
	cmd.Flags().Var(c, name, usage)
	complete(cmd, name, of...)
	return c
}
