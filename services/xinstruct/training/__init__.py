"""Training: seeds and kept pairs in, models of the roles out; jobs, the registry's entries and promotion.

Files: domain.py (names, states), config.py (Recipe), tables.py, snapshot.py (which pairs), loops.py (commands and job
keeper), jobs.py (the port that runs a job) with local_jobs.py and kubernetes_jobs.py, work_folder.py (what a job gets
and leaves), promotion.py and slots.py, serving.py (the port that has models served) with kubernetes_serving.py, api.py,
app.py; and, run as a process of its own with torch, job.py (one job; in a pod by job_pod.py), data.py (rows that a role
learns from), pretrain.py (the tiny base), folders.py.
"""
