package main

import "github.com/spf13/cobra"

func (a *app) pluginsNewCommand() *cobra.Command {
	return &cobra.Command{Use: "new NAME", Hidden: true}
}
