package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/loralab/loralab/core/filehash"
	"github.com/loralab/loralab/runner/trust"
	"github.com/loralab/loralab/runner/variant"
	"github.com/loralab/loralab/runner/view"
)

func (a *app) pluginsTrustCommand() *cobra.Command {
	var list, revoke, asJSON bool
	c := &cobra.Command{
		Use:   "trust NAME|PATH",
		Short: "Let a project start a plug-in that came with it",
		Long: `A plug-in is a program. It runs with your rights: it can read your files and send
them anywhere. Plug-ins in the plugins.d of a project are started only after you
have trusted them; the project's own runner.lock gives no trust.

Trust shows the file of a plug-in and remembers its SHA-256 in your data directory.
The same content is then trusted in every project, and no other content is. It does
not start the plug-in. "runner plugins install" trusts what it installs.`,
		Example: "  runner plugins trust gain\n  runner plugins trust --list\n  runner plugins trust --revoke gain",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			trusted, err := openTrust()
			switch {
			case err != nil:
				return err
			case list && len(args) > 0:
				return errors.New("--list shows all: leave out the name")
			case list && asJSON:
				return a.view.JSON(append([]trust.Entry{}, trusted.Entries...))
			case list:
				a.view.TrustList(trusted.Entries, trusted.Path())
				return nil
			case len(args) == 0:
				return errors.New("which plug-in? name one, or give --list")
			case asJSON:
				return errors.New("--json is for --list")
			case revoke:
				revoked, err := trusted.Revoke(args[0])
				if err == nil && len(revoked) == 0 {
					err = fmt.Errorf("no trusted plug-in has the name, the path or the SHA-256 %s; see: runner plugins trust --list", args[0])
				}
				if err != nil {
					return err
				}
				a.view.Revoked(revoked)
				return nil
			}
			return a.trustPlugin(trusted, args[0])
		},
	}
	c.Flags().BoolVar(&list, "list", false, "show what is trusted")
	c.Flags().BoolVar(&revoke, "revoke", false, "trust it no longer; a SHA-256 is also a name")
	c.Flags().BoolVar(&asJSON, "json", false, "write the list as JSON")
	c.MarkFlagsMutuallyExclusive("list", "revoke")
	return c
}

func openTrust() (*trust.List, error) {
	file, err := variant.TrustFile()
	if err != nil {
		return nil, err
	}
	return trust.Open(file)
}

// trustPlugin trusts the content of a file that is named by its variant in
// plugins.d, or by its path.
func (a *app) trustPlugin(trusted *trust.List, arg string) error {
	root, err := rootOf(nil)
	if err != nil {
		return err
	}
	path := filepath.Join(variant.ProjectDir(root), arg)
	named := !strings.ContainsRune(arg, filepath.Separator)
	if !named {
		if path, err = filepath.Abs(arg); err != nil {
			return fmt.Errorf("finding the plug-in: %w", err)
		}
	}
	info, err := os.Stat(path)
	switch {
	case named && errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("there is no %s: only plug-ins of a project need trust; a file elsewhere is named by its path, ./%s", path, arg)
	case err != nil:
		return fmt.Errorf("finding the plug-in: %w", err)
	case !info.Mode().IsRegular():
		return fmt.Errorf("%s is no file: name the program of the plug-in", path)
	case !variant.IsName(filepath.Base(path)):
		return fmt.Errorf("%s is no plug-in: the file has the name of its variant, in lower-case letters, digits and _", path)
	}
	shown := view.Trusted{Path: path, Size: info.Size()}
	if shown.SHA256, err = filehash.Of(path); err != nil {
		return fmt.Errorf("reading the plug-in: %w", err)
	}
	shown.Name = filepath.Base(path)
	if dirs := variant.DefaultDirs(root); filepath.Dir(path) == dirs[0] {
		for _, dir := range dirs[1:] {
			if other := filepath.Join(dir, shown.Name); shown.Shadows == "" && isFile(other) {
				shown.Shadows = other
			}
		}
	}
	shown.Known = trusted.Has(shown.SHA256)
	if err := trusted.Add(trust.Entry{SHA256: shown.SHA256, Name: shown.Name, Path: path, Date: time.Now().UTC().Truncate(time.Second)}); err != nil {
		return err
	}
	a.view.Trusted(shown)
	return nil
}

func isFile(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular()
}
