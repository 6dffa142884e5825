package data

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/loralab/loralab/core/filename"
)

// readable are the endings of pictures that are read; of them those with a true
// value keep numbers as they are and can be masks.
var readable = map[string]bool{
	".jpg": false, ".jpeg": false, ".jpe": false, ".jfif": false, ".webp": false, ".gif": false,
	".png": true, ".tif": true, ".tiff": true, ".bmp": true,
}

// foreign are endings of pictures that are not read. One among others is an
// error, as it would be missing without a word.
var foreign = endings(`heic heif avif jxl jp2 j2k jpx ppm pgm pbm pnm tga ico pcx sgi dib exr hdr pfm psd
	dng cr2 cr3 nef arw orf rw2 raf svs ndpi scn mrxs czi lif nd2 vsi
	npy npz h5 hdf5 dcm dicom nii mha mhd nrrd`)

// neighbors are endings of what lies next to pictures with good reason.
var neighbors = endings(`txt md csv tsv json jsonl xml yaml yml mat html pdf py sh log db ini url lnk`)

func endings(list string) map[string]bool {
	m := map[string]bool{}
	for _, e := range strings.Fields(list) {
		m["."+e] = true
	}
	return m
}

// listing is what a folder and the folders in it hold, by paths below a root.
type listing struct {
	pictures []string // that are read
	foreign  []string // pictures that are not, for their kind or their name
	strange  []string // neither pictures nor what lies next to such
}

func (l listing) faults() (faults []string) {
	for _, p := range l.foreign {
		if !utf8.ValidString(p) {
			faults = append(faults, filename.Shown(p)+": the name is not UTF-8; rename it")
			continue
		}
		faults = append(faults, p+": images of this kind are not read; convert it to PNG")
	}
	return faults
}

// list lists a folder below root in the order of paths. Hidden files and folders
// are left out: archives, file managers and notebooks leave them, with copies of
// pictures in them.
func list(root, folder string) (listing, error) {
	var l listing
	err := l.add(root, folder, nil)
	if errors.Is(err, fs.ErrNotExist) {
		return l, fmt.Errorf("no folder %s: a data set has images/ and masks/ with files of the same stem: %w",
			filepath.Join(root, filepath.FromSlash(folder)), fs.ErrNotExist)
	}
	slices.Sort(l.pictures)
	slices.Sort(l.foreign)
	slices.Sort(l.strange)
	return l, err
}

// add lists a folder. Those above it are known, so that links in a circle end.
func (l *listing) add(root, folder string, above []fs.FileInfo) error {
	dir := filepath.Join(root, filepath.FromSlash(folder))
	info, err := os.Stat(dir)
	if err != nil {
		return fmt.Errorf("listing %w", at(dir, err))
	}
	if slices.ContainsFunc(above, func(a fs.FileInfo) bool { return os.SameFile(a, info) }) {
		return fmt.Errorf("listing %s: it is a link to a folder above it", dir)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("listing %w", at(dir, err))
	}
	above = append(above[:len(above):len(above)], info)
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), ".") {
			continue
		}
		name := folder + "/" + e.Name()
		if e.IsDir() || e.Type()&fs.ModeSymlink != 0 && isDir(dir, e.Name()) {
			if err := l.add(root, name, above); err != nil {
				return err
			}
			continue
		}
		ending := strings.ToLower(path.Ext(e.Name()))
		if strings.HasSuffix(strings.ToLower(e.Name()), ".nii.gz") {
			ending = ".nii"
		}
		switch _, ok := readable[ending]; {
		case ok && !utf8.ValidString(name):
			l.foreign = append(l.foreign, name)
		case ok:
			l.pictures = append(l.pictures, name)
		case foreign[ending]:
			l.foreign = append(l.foreign, name)
		case !neighbors[ending]:
			l.strange = append(l.strange, name)
		}
	}
	return nil
}

func isDir(elem ...string) bool {
	info, err := os.Stat(filepath.Join(elem...))
	return err == nil && info.IsDir()
}
