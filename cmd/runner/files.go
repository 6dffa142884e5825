package main

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/loralab/loralab/runner/experiment"
)

// experimentFiles are the files that are named, or without a name those of the project.
func experimentFiles(named []string) ([]string, error) {
	if len(named) > 0 {
		return named, nil
	}
	dir, err := experimentsDir()
	if err != nil {
		return nil, err
	}
	if _, err := os.Stat(dir); err != nil {
		return nil, fmt.Errorf("there is no directory %s: name the files to check, or make a project with `runner init`", dir)
	}
	return []string{dir}, nil
}

// experimentsDir is experiments/ of the project that the current directory belongs to, by
// its path from there.
func experimentsDir() (string, error) {
	root, err := rootOf(nil)
	if err != nil {
		return "", err
	}
	wd, err := os.Getwd()
	if err != nil {
		return "", fmt.Errorf("finding the current directory: %w", err)
	}
	dir, err := filepath.Rel(wd, filepath.Join(root, "experiments"))
	if err != nil {
		return "", fmt.Errorf("finding the experiments of the project: %w", err)
	}
	return dir, nil
}

// inDirectories are files that are named, and the experiment files in directories that
// are.
func inDirectories(named []string) ([]string, error) {
	var files []string
	for _, name := range named {
		info, err := os.Stat(name)
		if err != nil || !info.IsDir() {
			files = append(files, name) // a file that is not there is reported with near names
			continue
		}
		in, err := filesIn(name)
		if err != nil {
			return nil, err
		}
		if len(in) == 0 {
			return nil, fmt.Errorf("there are no experiment files in the directory %s", name)
		}
		files = append(files, in...)
	}
	return files, nil
}

// filesIn are the experiment files of a directory.
func filesIn(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("reading the directory: %w", err)
	}
	var in []string
	for _, e := range entries {
		if filepath.Ext(e.Name()) == ".cue" && !e.IsDir() && e.Name() != experiment.SiteFile {
			in = append(in, filepath.Join(dir, e.Name()))
		}
	}
	return in, nil
}
