# What rules declare besides the files by which a step is known, where machines share no disk: there
# Snakemake carries what is declared and nothing else. On one disk it is nothing.

from snakemake.settings.types import SharedFSUsage


def shares_no_disk():
    """Whether files come and go by a storage plugin, or by the executor itself."""
    given = workflow.storage_settings
    if given is None:
        return False
    alone = SharedFSUsage.INPUT_OUTPUT not in given.shared_fs_usage
    return alone or given.default_storage_provider is not None


APART = shares_no_disk()


def bundles(*files):
    """Inputs: all that lies beside the files by which folders are known.

    A bundle is packed anew with its folder, whose file tells by its content whether that changed.
    """
    return [ancient(layout.bundle(file)) for file in files] if APART else []


def rest(log, *files):
    """Outputs: what a job with this log leaves besides these files.

    That is the rest of a folder in a bundle, the checksum of a file that stands alone, and what
    the job says of its cost, which the record of the study reads.
    """
    if not APART:
        return []
    of_folders = (layout.MANIFEST, layout.METADATA, os.path.basename(LAYOUT.gallery))
    return [layout.record(log)] + [
        layout.bundle(file) if os.path.basename(file) in of_folders else file + CHECKSUM
        for file in files
    ]


def writing_one(command):
    """The command of a rule that writes one file, which is the first where it declares others."""
    before, _, after = command.rpartition("{output:q}")  # the last: all are packed (`bundled`)
    return f"{before}{{output[0]:q}}{after}" if APART else command


def given(path):
    """An input that is none of the study's own: on this machine, where its jobs then run."""
    return local(path) if APART else path


def templates(*names):
    """Inputs: files that pages are made from."""
    return [given(os.path.relpath(SCRIPTS / "vlg/report/templates" / name)) for name in names]


def here(path):
    """A path of the study as jobs see it: files of a storage have local names of their own."""
    return str(workflow.modifier.path_modifier.apply_default_storage(path))


def check_arrays():
    """End with one line where Slurm shall have array jobs, and each job a disk of its own.

    The plugin starts every task of an array by the first one's Snakemake, which then waits for the
    first one's files.
    """
    chosen = getattr(workflow.executor_settings, "array_jobs", None) or "none"
    if APART and chosen != "none":
        sys.exit(
            f"error: slurm-array-jobs: {chosen} cannot be where jobs share no disk; "
            "add --slurm-array-jobs none"
        )


def bundled():
    """The beginning of a shell command that unpacks and packs around the rest."""
    if not APART:
        return ""
    return f"python -S {script('vlg/workflow/bundle')} --in {{input:q}} --out {{output:q}} --log {{log:q}} -- "
