"""What a cloud's own cleanup does to images: the user's policy as it is, evaluated image by image.

``ecr_policy`` reads ECR's lifecycle policy, ``gar_policy`` Artifact Registry's cleanup policies; both name every error
at once. ``ecr_evaluate`` and ``gar_evaluate`` say what happens to each image of an inventory, which rule does it, and
why; ``columns`` is what both compute with, ``evaluation`` what they answer, ``words`` the sentences. ``convert`` turns
one grammar into the other, ``aws_preview`` holds an evaluation against AWS's own preview.

The documents of both clouds leave questions open (``evaluation.Question``). An image on whose fate such a question
decides stays by our reading, and is called undecided.

Nothing here deletes. ``chain`` and the command line call it.
"""
