"""What a study is made from: prompts, captioned pictures, downloads, the encoded cache."""
