"""The demo: a local page that draws with a study's models, shows its pictures and takes votes.

`engine` draws and scores, `finished` reads the pictures of a finished study, `arena` asks which of
two is better and `votes` keeps the answers; none of these knows of a page. `pages/` is what a
browser sees, `app` puts it together and serves it.
"""
