package main

import (
	"fmt"
	"image"
	"image/color"
	"image/png"
	"os"
	"path/filepath"
	"strings"

	"github.com/rogpeppe/go-internal/testscript"
)

// published LAYOUT DIR writes a data set as it is published, some pictures of each
// part: masks of Pascal VOC with a palette, label ids of Cityscapes, of ADE20K 0 to
// 150. The mistakes "trainIds", "reduced" and "colors" are such masks that were
// converted.
func published(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: published LAYOUT DIR [MISTAKE]")
	}
	ts.Check(writePublished(args[0], ts.MkAbs(args[1]), strings.Join(args[2:], "")))
}

// publishedSide is the height and width of the pictures.
const publishedSide = 16

func writePublished(layout, dir, mistake string) error {
	number := 0
	pair := func(picture, mask string, most int) error {
		number++
		drawn := image.NewRGBA(image.Rect(0, 0, publishedSide, publishedSide))
		for i := range drawn.Pix {
			drawn.Pix[i] = byte(i*number) | byte(i%4/3*255)
		}
		if err := writePicture(filepath.Join(dir, picture), drawn); err != nil {
			return err
		}
		var palette color.Palette
		for i := range 256 {
			palette = append(palette, color.RGBA{byte(i), byte(3 * i), byte(7 * i), 255})
		}
		labels := image.NewPaletted(drawn.Rect, palette)
		for i := range labels.Pix {
			if labels.Pix[i] = byte((i*number + i/publishedSide) % (most + 1)); i%publishedSide == 0 && (layout == "voc" || layout == "vocAug" || mistake != "") {
				labels.Pix[i] = 255
			}
		}
		var m image.Image = labels
		if mistake == "colors" {
			rgb := image.NewRGBA(drawn.Rect)
			for y := range publishedSide {
				for x := range publishedSide {
					rgb.Set(x, y, labels.At(x, y))
				}
			}
			m = rgb
		} else if layout != "voc" || strings.Contains(mask, "Aug/") {
			m = &image.Gray{Pix: labels.Pix, Stride: labels.Stride, Rect: labels.Rect}
		}
		return writePicture(filepath.Join(dir, mask), m)
	}
	switch layout {
	case "voc", "vocAug":
		lists := map[string][]string{"train": {"2007_000032", "2007_000039", "2007_000063"}, "val": {"2007_000033", "2007_000042"}}
		if layout == "vocAug" {
			lists["trainaug"] = append(lists["train"], "2008_000002", "2008_000003", "2008_000007")
		}
		seen := map[string]bool{}
		for _, list := range []string{"train", "val", "trainaug"} {
			for _, stem := range lists[list] {
				folder := "SegmentationClass"
				if list == "trainaug" {
					folder += "Aug"
				}
				if seen[stem] {
					continue
				}
				seen[stem] = true
				if err := pair("JPEGImages/"+stem+".png", folder+"/"+stem+".png", 20); err != nil {
					return err
				}
			}
			if len(lists[list]) == 0 {
				continue
			}
			file := filepath.Join(dir, "ImageSets/Segmentation", list+".txt")
			if err := os.MkdirAll(filepath.Dir(file), 0o777); err != nil {
				return err
			}
			if err := os.WriteFile(file, []byte(strings.Join(lists[list], "\n")+"\n"), 0o666); err != nil {
				return err
			}
		}
		return nil
	case "cityscapes":
		most := 33
		if mistake == "trainIds" {
			most = 18
		}
		for i, city := range []string{"train/aachen", "train/bochum", "train/bochum", "val/lindau", "val/munster"} {
			name := fmt.Sprintf("%s/%s_%06d_000019", city, filepath.Base(city), i)
			if err := pair("leftImg8bit/"+name+"_leftImg8bit.png", "gtFine/"+name+"_gtFine_labelIds.png", most); err != nil {
				return err
			}
		}
		return nil
	case "ade20k":
		most := 150
		if mistake == "reduced" {
			most = 149
		}
		for i, part := range []string{"training/ADE_train", "training/ADE_train", "training/ADE_train", "validation/ADE_val", "validation/ADE_val"} {
			name := fmt.Sprintf("%s_%08d", part, i)
			if err := pair("images/"+name+".png", "annotations/"+name+".png", most); err != nil {
				return err
			}
		}
		return nil
	}
	return fmt.Errorf("there is no published layout %q", layout)
}

func writePicture(file string, m image.Image) error {
	if err := os.MkdirAll(filepath.Dir(file), 0o777); err != nil {
		return err
	}
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	defer f.Close()
	return png.Encode(f, m)
}
